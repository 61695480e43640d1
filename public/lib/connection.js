import { createParser } from './parser.js';

const silence = 40_000; // ms without a byte, after which a connection is dead: the server sends a comment every 15 s
const longestDelay = 30_000; // ms between two attempts, unless the server asks for more
const longestRetryAfter = 300_000;
const final = [204, 400, 401, 403]; // answers that another attempt would not change

// connect keeps a stream open until it is closed or the server says that there is nothing to come back for.
//
//   url, init       for fetch
//   lastId          the id to resume after
//   renew()         optional: asked after a 401, see docs/browser.md
//   onevent(event)  { type, data, id, origin }
//   onopen()
//   onlost(lost)    { status, since, final }: the stream, or an attempt to open it, failed. since is when the
//                   last byte came. Unless final is true, the next attempt follows by itself
//
// It returns { check, close }. check connects now instead of waiting for the next attempt, and replaces a
// connection that died unnoticed, because the machine slept or the tab was in the background.
export function connect({ url, init, lastId, renew, onevent, onopen, onlost }) {
  let pause = 3_000; // ms, until the server says otherwise
  let failures = 0; // in a row
  let renewed = false; // since a stream was last open: if that did not help, it would not help again
  let heard = Date.now(); // when the last byte came
  let asked; // when the last byte came or the request was sent, whichever is later
  let timer;
  let attempt; // aborts the request; undefined between two attempts

  async function open() {
    clearTimeout(timer);
    attempt?.abort();
    const mine = (attempt = new AbortController());
    const signal = mine.signal;
    asked = Date.now();
    const watch = setInterval(() => {
      if (Date.now() - asked > silence) fail({});
    }, 1_000);
    signal.addEventListener('abort', () => clearInterval(watch));

    function fail({ status, retryAfter = 0 }) {
      if (signal.aborted) return;
      mine.abort();
      attempt = undefined;
      const over = final.includes(status);
      if (!over) {
        const delay = Math.max(pause, retryAfter, Math.min(longestDelay, pause * 2 ** failures++));
        timer = setTimeout(open, delay * (1 + Math.random() / 4)); // so that clients that were cut off together do not come back together
      }
      onlost({ status, since: heard, final: over });
    }

    try {
      const address = new URL(url);
      // The id is in the address, because a header would make the browser ask another site for permission first.
      if (lastId) address.searchParams.set('lastEventId', lastId);
      const response = await fetch(address, { ...init, cache: 'no-store', signal });
      const { status, headers } = response;
      if (status === 401 && renew && !renewed && (await renew())) {
        if (signal.aborted) return;
        renewed = true;
        return open();
      }
      if (status !== 200 || !/^text\/event-stream *(;|$)/i.test(headers.get('Content-Type'))) {
        return fail({ status, retryAfter: milliseconds(headers.get('Retry-After')) });
      }
      failures = 0;
      renewed = false;
      heard = asked = Date.now();
      onopen();

      const { origin } = new URL(response.url);
      const parse = createParser({
        lastId,
        onevent: (event) => signal.aborted || onevent({ ...event, origin }),
        onid: (id) => signal.aborted || (lastId = id),
        onretry: (ms) => (pause = ms),
      });
      const [reader, decoder] = [response.body.getReader(), new TextDecoder()];
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return fail({});
        heard = asked = Date.now();
        parse(decoder.decode(value, { stream: true }));
      }
    } catch {
      fail({}); // no network, no permission, or cut off; or renew could not tell
    }
  }

  function close() {
    clearTimeout(timer);
    attempt?.abort();
  }

  open();
  return {
    close,
    check() {
      if (!attempt || Date.now() - asked > silence) open();
    },
  };
}

// milliseconds returns how long a Retry-After asks to wait. It has seconds or a date.
function milliseconds(retryAfter) {
  const ms = /^\d+$/.test(retryAfter) ? retryAfter * 1_000 : Date.parse(retryAfter) - Date.now();
  return Math.min(Math.max(ms || 0, 0), longestRetryAfter);
}
