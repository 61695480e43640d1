import { createParser } from './parser.js';

const [shortestPause, longestPause] = [1_000, 60_000]; // ms between two attempts that the server can ask for with retry:
const [longestDelay, longestRetryAfter] = [30_000, 300_000]; // after several failures; if the server asks for it
const [usualKeepalive, longestKeepalive] = [15_000, 120_000]; // after which a server sends a comment on a silent stream
const [quiet, slow] = [2_000, 5_000]; // without a byte or an answer, after which what is in doubt is replaced

// connect keeps a stream open until it is closed or the server says that there is nothing to come back for. What it takes
// and calls: docs/browser.md#inside.
export function connect({ url, init, headers, fetch: send = fetch, lastId = '', wasOpen, renew, onevent, onopen = () => {}, onlost }) {
  let pause = 3_000; // ms, until the server says otherwise
  let failures = 0; // in a row
  let renewed = false; // since a stream was last open
  let heard = Date.now(); // when the last byte came
  let asked; // when the latest attempt began
  let keepalive = usualKeepalive; // as far as this client has seen
  let resumes = false; // after an event of the stream
  let latest = lastId === 'latest'; // until all of that has come, only the same request can bring the rest
  let expires; // when the token does, in seconds of the server's clock
  let [timer, early, doubting] = []; // timers: for the next attempt, for renew, for check
  let [current, next] = []; // abort the connection, and the attempt to open another one
  const renewable = renew || typeof headers === 'function';

  // open makes an attempt. The connection there is lasts until the new one is open; with keep, also if the attempt fails.
  async function open({ keep } = {}) {
    clearTimeout(timer);
    next?.abort();
    const mine = (next = new AbortController());
    const { signal } = mine;
    let since; // when the connection was opened
    let final = false; // another attempt would fail too
    asked = Date.now();
    const watch = setInterval(() => {
      if (Date.now() - (since ? heard : asked) < 2.5 * keepalive + 2_500) return;
      if (since && heard - since < slow) keepalive = Math.min(2 * keepalive, longestKeepalive); // the server may just be quieter
      fail();
    }, 1_000);
    signal.addEventListener('abort', () => clearInterval(watch));

    function fail({ retryAfter = 0, ...said } = {}) {
      if (signal.aborted) return;
      mine.abort();
      if (next === mine) next = undefined;
      if (current === mine) current = undefined;
      if (next || (current && keep)) return; // another one goes on
      current?.abort();
      current = undefined;
      const delay = Math.max(pause, retryAfter, Math.min(longestDelay, pause * 2 ** failures++));
      if (!final) timer = setTimeout(open, delay * (1 + Math.random() / 4)); // clients that were cut off together do not come back together
      onlost({ ...said, since: heard, final });
    }

    try {
      const given = typeof headers === 'function' ? await headers() : await headers;
      final = true;
      const [address, options] = [new URL(url), { ...init, headers: toHeaders(given), cache: 'no-store', signal }];
      if (!/^https?:$/.test(address.protocol)) throw new TypeError(`a stream needs http: or https:, not ${address.protocol}`);
      final = false;
      // The id is in the address, because a header would make the browser ask another site for permission first. At home,
      // it is also in the header of the standard, for servers that know no other.
      const after = latest ? 'latest' : lastId;
      if (after) address.searchParams.set('lastEventId', after);
      const isHome = address.origin === globalThis.location?.origin;
      if (isHome && resumes && /^[ -~]+$/.test(lastId)) options.headers.set('Last-Event-ID', lastId);
      if (signal.aborted) return;
      const response = await send(address, options);
      const { status, headers: has, body } = response;
      const asks = status === 401 && renew && !renewed;
      const helps = asks && (await renew());
      if (signal.aborted) return void body?.cancel().catch(() => {});
      renewed = Boolean(helps); // if it does not help, pause before the next time
      if (helps) return open({ keep });
      if (status !== 200 || !/^text\/event-stream *(;|$)/i.test(has.get('Content-Type'))) {
        const mayPass = status >= 500 || [408, 425, 429].includes(status) || (wasOpen && [200, 404].includes(status));
        final = !mayPass && !(status === 401 && renewable && !asks);
        const message = /json/.test(has.get('Content-Type')) ? await response.json().then(({ error }) => error, () => undefined) : undefined;
        return fail({ status, message, retryAfter: milliseconds(has.get('Retry-After')) });
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
          if (ours) event.lastEventId = event.id;
          const unknown = Boolean(position) && first && !live && /-\d+$/.test(after) && event.id !== after;
          onevent({ ...event, origin, isPosition: Boolean(position), first, ours, live, sparse: latest, unknown });
        },
        onid: (id) => signal.aborted || ([lastId, resumes] = [id, true]),
        onretry: (ms) => (pause = Math.min(Math.max(ms, shortestPause), longestPause)),
      });
      const [reader, decoder] = [body.getReader(), new TextDecoder()];
      signal.addEventListener('abort', () => reader.cancel().catch(() => {})); // for a fetch that does not heed the signal
      for (let comments = 0; ; ) { // in a row
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
      fail({ cause, message: final ? cause.message : undefined }); // no network, no permission, or cut off; or headers or renew could not tell
    }
  }
  // plan renews a token before it expires, and changes over to a connection with the new one. If renew fails, it is asked
  // again when the stream ends.
  function plan(seconds, skew) {
    const left = seconds * 1_000 - skew - Date.now();
    if (seconds === expires || !(left > 1_000) || !renewable) return;
    expires = seconds;
    clearTimeout(early);
    const change = async () => current && (!renew || (await renew())) && current && open({ keep: true });
    early = setTimeout(() => change().catch(() => {}), Math.min(left - Math.min(60_000, left / 3), 2 ** 31 - 1));
  }

  open();
  return {
    check({ doubt } = {}) {
      if (!current) return void ((!next || Date.now() - asked > slow) && open());
      clearTimeout(doubting);
      const replace = () => current && !next && Date.now() - heard >= quiet && open();
      if (doubt) doubting = setTimeout(replace, Math.max(0, heard + quiet - Date.now()));
    },
    close() {
      [timer, early, doubting].forEach(clearTimeout);
      [current, next].forEach((attempt) => attempt?.abort());
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
  const bad = pairs.find(([name, value]) => !sent.has(name) || !/string|number/.test(typeof value));
  if (bad) throw new TypeError(`a page cannot send the header ${bad[0]}: ${typeof bad[1]}`);
  if (!headers.has('Accept')) headers.set('Accept', 'text/event-stream');
  return headers;
}

function positionOf({ type, id, data }) {
  try {
    return type === 'position' && /-\d+$/.test(id) && /^\{.*\}$/s.test(data) && JSON.parse(data);
  } catch {} // it is another server's
}

// milliseconds returns how long a Retry-After asks to wait. It has seconds or a date.
const milliseconds = (after) => Math.min(Math.max((/^\d+$/.test(after) ? after * 1_000 : Date.parse(after) - Date.now()) || 0, 0), longestRetryAfter);
