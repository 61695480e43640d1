import { createParser } from './parser.js';

const [shortestPause, longestPause] = [1_000, 60_000]; // ms between two attempts that the server can ask for with retry:
const longestDelay = 30_000; // after several failures, unless the server asks for more
const longestRetryAfter = 300_000;
const longestKeepalive = 120_000;
const quiet = 2_000; // without a byte, after which a connection in doubt is replaced
const slow = 5_000; // without an answer, after which an attempt in doubt is made again

// connect keeps a stream open until it is closed or the server says that there is nothing to come back for.
//
//   url, init, headers, fetch  what is asked. headers may be a function, called for each attempt
//   lastId          the id to resume after
//   wasOpen         the stream was open before, so its address is right
//   renew()         optional: asked after a 401 and before a token expires, see docs/browser.md
//   onevent(event)  what the parser returns, and: origin; ours: the server is this one; isPosition, first: its position, and
//                   that at the beginning; live: all that was kept has come; sparse: others before it may be left out
//   onopen()        there is a connection, perhaps in place of another one
//   onlost(lost)    { status, message, cause, since, final }: it failed. since is when the last byte came. Unless final is
//                   true, the next attempt follows by itself
//
// It returns { check, close }. check connects now instead of waiting for the next attempt. With doubt, it also replaces a
// connection that is silent: it may have died unnoticed, because the machine slept or the network changed.
export function connect({ url, init, headers, fetch: send = fetch, lastId = '', wasOpen, renew, onevent, onopen = () => {}, onlost }) {
  let pause = 3_000; // ms, until the server says otherwise
  let failures = 0; // in a row
  let renewed = false; // since a stream was last open
  let heard = Date.now(); // when the last byte came
  let asked; // when the latest attempt began
  let keepalive = 15_000; // ms after which the server sends a comment on a silent stream, as far as this client has seen
  let resumes = false; // after an event of this stream
  let latest = lastId === 'latest'; // until all of that has come, only the same request can bring the rest
  let expires; // when the token does, in seconds of the server's clock
  let [timer, early, doubt] = []; // timers: for the next attempt, for renew, for check
  let current; // aborts the connection
  let next; // aborts the attempt to open another one
  const renewable = renew || typeof headers === 'function';

  // open makes an attempt. The connection there is lasts until the new one is open and takes its place; with keep, also
  // if the attempt fails.
  async function open({ keep } = {}) {
    clearTimeout(timer);
    next?.abort();
    const mine = (next = new AbortController());
    const { signal } = mine;
    let since; // when the connection was opened
    asked = Date.now();
    const watch = setInterval(() => {
      if (Date.now() - (since ? heard : asked) < 2.5 * keepalive + 2_500) return;
      if (since && heard - since < slow) keepalive = Math.min(2 * keepalive, longestKeepalive); // the server may just be quieter
      fail();
    }, 1_000);
    signal.addEventListener('abort', () => clearInterval(watch));

    function fail({ final = false, retryAfter = 0, ...said } = {}) {
      if (signal.aborted) return;
      mine.abort();
      if (next === mine) next = undefined;
      if (current === mine) current = undefined;
      if (next || (current && keep)) return; // another one goes on
      current?.abort();
      current = undefined;
      if (!final) {
        const delay = Math.max(pause, retryAfter, Math.min(longestDelay, pause * 2 ** failures++));
        timer = setTimeout(open, delay * (1 + Math.random() / 4)); // so that clients that were cut off together do not come back together
      }
      onlost({ ...said, since: heard, final });
    }

    try {
      const given = typeof headers === 'function' ? await headers() : await headers;
      const [address, options] = [new URL(url), { ...init, cache: 'no-store', signal }];
      if (!/^https?:$/.test(address.protocol)) return fail({ final: true, message: `A stream needs http: or https:, not ${address.protocol}` });
      try {
        options.headers = toHeaders(given);
      } catch (cause) {
        return fail({ final: true, message: cause.message, cause });
      }
      // The id is in the address, because a header would make the browser ask another site for permission first. At home,
      // it is also in the header of the standard, for servers that know no other.
      if (latest || lastId) address.searchParams.set('lastEventId', latest ? 'latest' : lastId);
      const isHome = address.origin === globalThis.location?.origin;
      if (isHome && lastId && resumes) options.headers.set('Last-Event-ID', String.fromCharCode(...new TextEncoder().encode(lastId)));
      if (signal.aborted) return;
      const response = await send(address, options);
      const { status, headers: has, body } = response;
      const asks = status === 401 && renew && !renewed;
      const helps = asks && (await renew());
      if (signal.aborted) return void body?.cancel().catch(() => {});
      renewed = Boolean(helps); // if it does not help, pause before the next time
      if (helps) return open({ keep });
      if (status !== 200 || !/^text\/event-stream *(;|$)/i.test(has.get('Content-Type'))) {
        const mayPass = status >= 500 || [408, 425, 429].includes(status) || (wasOpen && [200, 404].includes(status)) || (status === 401 && renewable && !asks);
        const message = /json/.test(has.get('Content-Type')) ? await response.json().then(({ error }) => error, () => undefined) : undefined;
        return fail({ status, message, retryAfter: milliseconds(has.get('Retry-After')), final: !mayPass });
      }
      let late = current && heard > asked; // the latest tick, which comes first, may be older than that of the connection before
      current?.abort();
      since = heard = Date.now();
      [current, next, wasOpen, failures, renewed] = [mine, undefined, true, 0, false];
      onopen();

      const { origin } = new URL(response.url || address);
      const skew = (Date.parse(has.get('Date')) || Date.now()) - Date.now();
      let ours; // true if the stream begins with a position, as those of this server do
      const parse = createParser({
        lastId,
        onevent(event) {
          if (signal.aborted) return;
          const position = (ours ?? true) && positionOf(event);
          const first = ours === undefined;
          ours ??= Boolean(position);
          const { live, expires: until } = { live: !ours || Boolean(position), ...position };
          latest &&= !live;
          if (position) plan(until, skew);
          if (late && ours && !event.id) return void (late = false);
          const lastEventId = ours ? event.id : event.lastEventId;
          onevent({ ...event, origin, lastEventId, isPosition: Boolean(position), first, ours, live, sparse: latest });
        },
        onid: (id) => signal.aborted || ([lastId, resumes] = [id, true]),
        onretry: (ms) => (pause = Math.min(Math.max(ms, shortestPause), longestPause)),
      });
      const [reader, decoder] = [body.getReader(), new TextDecoder()];
      signal.addEventListener('abort', () => reader.cancel().catch(() => {})); // for a fetch that does not heed the signal
      let comments = 0; // in a row
      for (;;) {
        const { done, value } = await reader.read();
        if (signal.aborted) return;
        if (done) break;
        const text = decoder.decode(value, { stream: true });
        comments = /^:[^\r\n]*[\r\n]+$/.test(text) ? comments + 1 : 0;
        if (comments > 1) keepalive = Math.min(Math.max(Date.now() - heard, 0.8 * keepalive, 1_000), longestKeepalive);
        heard = Date.now();
        parse(text);
      }
      // A stream that ended with its token needs no pause: the answer will be a 401, or there is a new token already.
      if (!next && Date.now() + skew > expires * 1_000 - 1_000 && Date.now() - since > pause) open();
      else fail();
    } catch (cause) {
      fail({ cause }); // no network, no permission, or cut off; or headers or renew could not tell
    }
  }

  // plan renews a token before it expires, and changes over to a connection with the new one.
  function plan(seconds, skew) {
    const left = seconds * 1_000 - skew - Date.now();
    if (seconds === expires || !(left > 1_000) || !renewable) return;
    expires = seconds;
    clearTimeout(early);
    early = setTimeout(async () => {
      try {
        if (current && (!renew || (await renew())) && current) open({ keep: true });
      } catch {} // it is asked again when the stream ends
    }, Math.min(left - Math.min(60_000, left / 3), 2 ** 31 - 1));
  }

  open();
  return {
    check({ doubt: inDoubt } = {}) {
      if (!current) return void ((!next || Date.now() - asked > slow) && open());
      if (!inDoubt) return;
      clearTimeout(doubt);
      doubt = setTimeout(() => current && !next && Date.now() - heard >= quiet && open(), Math.max(0, heard + quiet - Date.now()));
    },
    close() {
      [timer, early, doubt].forEach(clearTimeout);
      next?.abort();
      current?.abort();
      [current, next] = [];
    },
  };
}

// toHeaders returns the headers of a request. It throws a TypeError if there is one that cannot be sent.
export function toHeaders(given = {}) {
  if (given === null || typeof given !== 'object') throw new TypeError(`headers must be an object, a list of pairs, Headers or a function, not ${given}`);
  const pairs = Symbol.iterator in given ? [...given] : Object.entries(given);
  const headers = new Headers(pairs);
  const sent = new Request('http://localhost/', { headers }).headers; // a browser leaves out what a page must not set
  for (const [name, value] of pairs) {
    if (!sent.has(name) || !/string|number/.test(typeof value)) throw new TypeError(`A page cannot send the header ${name}: ${typeof value}`);
  }
  if (!headers.has('Accept')) headers.set('Accept', 'text/event-stream');
  return headers;
}

function positionOf({ type, id, data }) {
  try {
    return type === 'position' && /-\d+$/.test(id) && /^\{.*\}$/s.test(data) && JSON.parse(data);
  } catch {} // it is another server's
}

// milliseconds returns how long a Retry-After asks to wait. It has seconds or a date.
function milliseconds(retryAfter) {
  const ms = /^\d+$/.test(retryAfter) ? retryAfter * 1_000 : Date.parse(retryAfter) - Date.now();
  return Math.min(Math.max(ms || 0, 0), longestRetryAfter);
}
