// Tests of SharedEventSource in one page, on simulated time: node --test. The module is in ./lib.

import assert from 'node:assert/strict';
import { mock, test } from 'node:test';

// Clock has the time of the module, which stands still until a test lets it pass. (The one of node:test loses timers.)
class Clock {
  now = 1_800_000_000_000; // ms
  timers = new Map();
  count = 0;

  constructor() {
    const set = (run, ms = 0, every) => {
      this.timers.set(++this.count, { run, time: this.now + ms, every });
      return this.count;
    };
    const clear = (id) => void this.timers.delete(id);
    globalThis.setTimeout = (run, ms, ...more) => set(() => run(...more), ms);
    globalThis.setInterval = (run, ms) => set(run, ms, ms);
    globalThis.clearTimeout = globalThis.clearInterval = clear;
    Date.now = () => this.now;
  }

  async pass(ms) {
    const end = this.now + ms;
    await settle();
    for (;;) {
      const [id, next] = [...this.timers].reduce((first, other) => (other[1].time < first[1].time ? other : first), [0, { time: Infinity }]);
      if (next.time > end) break;
      this.now = Math.max(this.now, next.time);
      if (next.every) next.time += next.every;
      else this.timers.delete(id);
      next.run();
      await settle();
    }
    this.now = end;
  }
}

// settle lets everything happen that needs no time.
const settle = async () => {
  for (let n = 0; n < 10; n++) await new Promise(setImmediate);
};

const clock = new Clock();
const pass = (ms) => clock.pass(ms);
const { SharedEventSource } = await import('./lib/shared-event-source.js');

const [CONNECTING, OPEN, CLOSED] = [0, 1, 2];
const address = 'http://server.example/sse';
const position = (number, data = { live: true }) => `id:e-${number}\nevent:position\ndata:${JSON.stringify(data)}\n\n`;
const message = (number) => `id:e-${number}\ndata:${number}\n\n`;

// Server answers as a test tells it to. Its fetch makes streams that no other test shares.
class Server {
  requests = [];

  fetch = (url, { headers, signal, credentials }) => new Promise((resolve, reject) => {
    const request = { url: new URL(url), headers, credentials, open: false, aborted: false };
    request.lastId = request.url.searchParams.get('lastEventId');
    request.finite = request.url.searchParams.get('follow') === 'false';
    const body = new ReadableStream({ start(controller) { request.body = controller; } });
    signal.addEventListener('abort', () => {
      request.aborted = true;
      reject(signal.reason);
      if (request.open) request.body.error(signal.reason);
      request.open = false;
    });
    request.answer = (status, more = {}) => resolve(new Response(status === 204 ? null : more.body ?? '', { status, headers: more.headers }));
    request.fail = () => reject(new TypeError('Failed to fetch'));
    request.begin = (...frames) => {
      if (request.aborted) return;
      request.open = true;
      resolve(new Response(body, { headers: { 'Content-Type': 'text/event-stream' } }));
      request.write(...frames);
    };
    request.write = (...frames) => request.open && request.body.enqueue(new TextEncoder().encode(frames.join('')));
    request.end = () => {
      if (request.open) request.body.close();
      request.open = false;
    };
    this.requests.push(request);
  });

  get last() { return this.requests.at(-1); }
  get open() { return this.requests.filter(({ open }) => open); }
}

// listen opens a stream and notes what happens.
function listen(url, options) {
  const source = new SharedEventSource(url, options);
  const got = [];
  for (const type of ['open', 'message', 'gap', 'error', 'named']) {
    source.addEventListener(type, ({ data, status }) => got.push(data ?? (status ? `${type} ${status}` : type)));
  }
  return Object.assign(source, { got });
}

function it(name, run) {
  test(name, async () => {
    const said = mock.method(console, 'error', () => {});
    const server = new Server();
    try {
      await run(server, said.mock);
    } finally {
      for (const request of server.requests) request.answer(410);
      await pass(1_100); // the streams of a page outlive their listeners by a second
      said.mock.restore();
    }
  });
}

for (const [kind, headers] of Object.entries({
  'an object': { Authorization: 'Bearer x', Number: 5 },
  'Headers': new Headers({ Authorization: 'Bearer x' }),
  'a list of pairs': [['Authorization', 'Bearer x']],
  'a function': () => ({ Authorization: 'Bearer x' }),
  'an async function': async () => new Headers({ Authorization: 'Bearer x' }),
})) {
  it(`headers may be ${kind}`, async (server) => {
    listen(address, { headers, fetch: server.fetch });
    await settle();
    assert.equal(server.last.headers.get('Authorization'), 'Bearer x');
    assert.equal(server.last.headers.get('Accept'), 'text/event-stream');
  });
}

for (const headers of [5, 'text', null, { A: undefined }, { A: null }, { A: () => 'x' }, [['A']], { 'a b': 'x' }, { A: '…' }, { A: 'x\ny' }]) {
  it(`headers that cannot be sent are a TypeError: ${JSON.stringify(headers)} ${typeof headers?.A}`, (server) => {
    assert.throws(() => new SharedEventSource(address, { headers, fetch: server.fetch }), TypeError);
  });
}

for (const options of [{ renew: 5 }, { fetch: 'fetch' }, { renew: null }]) {
  it(`options of another type are a TypeError: ${JSON.stringify(options)}`, () => {
    assert.throws(() => new SharedEventSource(address, options), TypeError);
  });
}

it('a function for headers is called for each attempt', async (server) => {
  let n = 0;
  listen(address, { headers: () => ({ Authorization: `Bearer ${++n}` }), fetch: server.fetch });
  await settle();
  server.last.answer(503);
  await pass(5_000);
  assert.deepEqual(server.requests.map(({ headers }) => headers.get('Authorization')), ['Bearer 1', 'Bearer 2']);
});

it('headers from a function that cannot be sent close the stream and say why', async (server, said) => {
  const source = new SharedEventSource(address, { headers: () => ({ A: '…' }), fetch: server.fetch });
  const error = new Promise((resolve) => { source.onerror = resolve; });
  await settle();
  await pass(100);
  assert.equal(source.readyState, CLOSED);
  assert.ok((await error).cause instanceof TypeError);
  assert.equal(server.requests.length, 0);
  assert.equal(said.callCount(), 1);
});

it('a function for headers that fails is asked again later', async (server, said) => {
  let n = 0;
  const source = new SharedEventSource(address, { headers: async () => { if (++n === 1) throw new Error('not now'); return {}; }, fetch: server.fetch });
  const error = new Promise((resolve) => { source.onerror = resolve; });
  await pass(5_000);
  assert.equal((await error).cause.message, 'not now');
  assert.equal(source.readyState, CONNECTING);
  assert.equal(server.requests.length, 1);
  assert.equal(said.callCount(), 0);
});

it('a token is renewed before it expires, without an error and without a hole', async (server) => {
  let renewals = 0;
  const source = listen(address, { renew: async () => { renewals++; return true; }, fetch: server.fetch });
  await settle();
  const [first] = server.requests;
  const expires = clock.now / 1_000 + 600;
  first.begin(position(0, { live: true, expires }), message(1));
  for (let n = 0; n < 53; n++) {
    await pass(10_000);
    first.write(':\n\n');
  }
  assert.equal(renewals, 0);
  await pass(11_000);
  assert.equal(renewals, 1);
  assert.equal(server.requests.length, 2);
  first.write(message(2)); // while the new one is asked for
  await settle();
  server.last.begin(position(1, { live: false, expires: expires + 600 }), message(2), message(3), position(3, { live: true, expires: expires + 600 }));
  await settle();
  assert.equal(first.aborted, true);
  assert.deepEqual(source.got, ['open', '1', '2', '3']);
  assert.equal(source.live, true);
  assert.equal(server.last.lastId, 'e-1');
});

it('a function for headers is asked again before the token expires', async (server) => {
  let n = 0;
  const source = listen(address, { headers: () => ({ Authorization: `Bearer ${++n}` }), fetch: server.fetch });
  await settle();
  server.last.begin(position(0, { live: true, expires: clock.now / 1_000 + 9 }));
  await pass(6_500);
  assert.deepEqual(server.requests.map(({ headers }) => headers.get('Authorization')), ['Bearer 1', 'Bearer 2']);
  server.last.begin(position(0, { live: true, expires: clock.now / 1_000 + 19 }));
  await settle();
  assert.deepEqual(source.got, ['open']);
});

it('a renewal that does not make the token last longer is not repeated at once', async (server) => {
  let renewals = 0;
  listen(address, { renew: () => ++renewals > 0, fetch: server.fetch });
  await settle();
  const expires = clock.now / 1_000 + 30;
  server.last.begin(position(0, { live: true, expires }));
  await pass(20_500);
  server.last.begin(position(0, { live: true, expires }));
  await pass(8_000);
  assert.equal(renewals, 1);
  assert.equal(server.requests.length, 2);
});

it('a change of connections that fails leaves the stream as it is', async (server) => {
  const source = listen(address, { renew: () => true, fetch: server.fetch });
  await settle();
  const [first] = server.requests;
  first.begin(position(0, { live: true, expires: clock.now / 1_000 + 30 }));
  await pass(20_500);
  server.last.answer(503);
  await settle();
  first.write(message(1));
  await pass(5_000);
  assert.deepEqual(source.got, ['open', '1']);
  assert.equal(server.requests.length, 2);
});

it('close while renew is asked leaves nothing', async (server) => {
  let answer;
  const source = listen(address, { renew: () => new Promise((resolve) => { answer = resolve; }), fetch: server.fetch });
  await settle();
  server.last.begin(position(0, { live: true, expires: clock.now / 1_000 + 30 }));
  await pass(20_500);
  source.close();
  await pass(1_100);
  answer(true);
  await pass(5_000);
  assert.equal(server.requests.length, 1);
  assert.equal(server.open.length, 0);
});

it('a token that lasts for years is not renewed at once', async (server) => {
  let renewals = 0;
  listen(address, { renew: () => ++renewals > 0, fetch: server.fetch });
  await settle();
  server.last.begin(position(0, { live: true, expires: clock.now / 1_000 + 1e9 }));
  await pass(1_000);
  assert.equal(renewals, 0);
});

it('a renewal that fails leaves the stream as it is, and a stream that ends with its token comes back without an error', async (server) => {
  let renewals = 0;
  const source = listen(address, { renew: async () => { if (++renewals === 1) throw new Error('down'); return true; }, fetch: server.fetch });
  await settle();
  server.last.begin(position(0, { live: true, expires: clock.now / 1_000 + 30 }));
  await pass(29_500);
  assert.equal(renewals, 1);
  assert.equal(server.requests.length, 1);
  server.last.end();
  await settle();
  server.last.answer(401);
  await settle();
  assert.equal(renewals, 2);
  assert.equal(server.requests.length, 3);
  server.last.begin(position(0));
  await settle();
  assert.deepEqual(source.got, ['open']);
});

it('a 401 straight after a renewal is tried again, later each time, until renew says false', async (server, said) => {
  let renewals = 0;
  const times = [];
  const source = listen(address, { renew: async () => ++renewals < 4, fetch: server.fetch });
  for (let n = 0; n < 8 && source.readyState !== CLOSED; n++) {
    for (let waited = 0; server.requests.length <= n && waited < 60_000; waited += 100) await pass(100);
    times.push(Date.now());
    server.last.answer(401, { body: '{"error":"the token is not valid"}', headers: { 'Content-Type': 'application/json' } });
    await settle();
  }
  assert.equal(renewals, 4);
  assert.equal(source.readyState, CLOSED);
  assert.deepEqual(source.got, ['error 401', 'error 401', 'error 401', 'error 401']);
  assert.match(said.calls[0].arguments[0], /the token is not valid/);
  const pauses = times.map((time, n) => time - times[n - 1]).filter((ms) => ms > 100);
  assert.deepEqual(pauses, pauses.toSorted((a, b) => a - b));
});

it('a 401 without renew closes', async (server) => {
  const source = listen(address, { fetch: server.fetch });
  await settle();
  server.last.answer(401);
  await settle();
  assert.equal(source.readyState, CLOSED);
});

it('all instances of a page share a connection, however the address is written', async (server) => {
  const { fetch } = server;
  const urls = ['?topic=a&topic=b', '?topic=b&topic=a', '?topic=a&topic=b#x', '?topic=a&topic=b&', '?topic=%61&topic=b', '?topic=a&topic=b&lastEventId='];
  const sources = urls.map((url) => listen(address + url, { fetch }));
  await settle();
  assert.equal(server.requests.length, 1);
  server.last.begin(position(0), message(1));
  await pass(100);
  for (const source of sources) assert.deepEqual(source.got, ['open', '1']);
});

it('instances with another function, other headers or another key do not share', async (server) => {
  const { fetch } = server;
  const headers = () => ({});
  listen(address, { fetch, headers });
  listen(address, { fetch, headers });
  await settle();
  assert.equal(server.requests.length, 1);
  listen(address, { fetch, headers: () => ({}) });
  listen(address, { fetch: (...request) => fetch(...request), headers });
  listen(address, { fetch, headers: { A: 'x' } });
  listen(address, { fetch, headers, shareKey: 'x' });
  listen(address, { fetch, headers, withCredentials: true });
  await settle();
  assert.equal(server.requests.length, 6);
});

it('an instance that wants older messages fetches them, and disturbs nobody', async (server) => {
  const { fetch } = server;
  const first = listen(address, { fetch });
  await settle();
  const [stream] = server.requests;
  stream.begin(position(2), message(3), message(4));
  await settle();
  let changes = 0;
  first.onstatechange = () => changes++;
  const others = ['earliest', 'e-1', 'e-3'].map((id) => listen(`${address}?lastEventId=${id}`, { fetch }));
  await pass(100);
  assert.deepEqual(server.requests.map(({ lastId, finite }) => [lastId, finite]), [[null, false], ['earliest', true], ['e-1', true], ['e-3', true]]);
  stream.write(message(5));
  await settle();
  const [, earliest, one, three] = server.requests;
  earliest.begin(position(0, { live: false }), message(1), message(2));
  one.begin(position(1, { live: false }), message(2), message(3), message(4), message(5), position(5));
  three.begin(position(3, { live: false }), message(4), position(4));
  await settle();
  assert.deepEqual(others.map(({ live }) => live), [false, true, true]);
  earliest.write(message(3), message(4), position(4));
  earliest.end();
  await settle();
  stream.write(message(6));
  await pass(10_000);
  assert.deepEqual(others.map(({ got }) => got.join()), ['open,1,2,3,4,5,6', 'open,2,3,4,5,6', 'open,4,5,6']);
  assert.deepEqual(others.map(({ live, readyState }) => [live, readyState]), Array(3).fill([true, OPEN]));
  assert.deepEqual(first.got, ['open', '3', '4', '5', '6']);
  assert.equal(changes, 0);
  assert.equal(server.requests.length, 4);
  assert.deepEqual(server.open, [stream]);
});

it('the newest message of each topic comes once, also if the connection is lost in between', async (server) => {
  const { fetch } = server;
  const source = listen(`${address}?lastEventId=latest`, { fetch });
  await settle();
  server.last.begin(position(40, { live: false }), message(5)); // an id at the end, for clients that resume there
  await settle();
  const joined = listen(`${address}?lastEventId=e-6`, { fetch });
  await pass(100);
  server.last.end();
  await pass(5_000);
  assert.equal(server.last.lastId, 'latest');
  server.last.begin(position(41, { live: false }), message(5), message(20), message(40), position(41));
  await settle();
  assert.deepEqual(source.got, ['open', '5', 'error', 'open', '20', '40']);
  assert.equal(source.lastEventId, 'e-41');
  assert.equal(source.live, true);
  assert.deepEqual([server.last.lastId, server.last.finite], ['e-6', true]); // the others in between are missing
  server.last.begin(position(6, { live: false }), message(7), message(20), message(40), position(41));
  await settle();
  assert.deepEqual(joined.got.filter((text) => Number(text)), ['7', '20', '40']);
});

it('a server with a backup put back is followed although its numbers are lower, and what is missing is told', async (server) => {
  const { fetch } = server;
  const gap = (number) => `id:e-${number}\nevent:gap\ndata:{}\n\n`;
  const sources = [listen(address, { fetch }), listen(address, { fetch })];
  await settle();
  server.last.begin(position(0), message(1), message(2), message(90)); // the backup has 1 and 2
  await settle();
  server.last.end();
  await pass(5_000);
  assert.equal(server.last.lastId, 'e-90');
  server.last.begin(position(0, { live: false }), gap(0), message(1), message(2), message(50), position(50));
  await settle();
  server.last.write(message(51));
  await pass(100);
  for (const { got, lastEventId } of sources) {
    assert.deepEqual(got, ['open', '1', '2', '90', 'error', 'open', '{}', '1', '2', '50', '51']);
    assert.equal(lastEventId, 'e-51');
  }
});

it('an id from before a backup was put back gets its gap, also where a stream is open already', async (server) => {
  const { fetch } = server;
  const first = listen(address, { fetch });
  await settle();
  const [stream] = server.requests;
  stream.begin(position(50));
  await settle();
  const second = listen(`${address}?lastEventId=e-90`, { fetch });
  await pass(100);
  assert.deepEqual([server.last.lastId, server.last.finite], ['e-90', true]);
  stream.write(message(51)); // while the part is on its way
  server.last.begin(position(0, { live: false }), 'id:e-0\nevent:gap\ndata:{}\n\n', message(2), message(50), position(50));
  await settle();
  stream.write(message(52));
  await pass(100);
  assert.deepEqual(second.got, ['open', '{}', '2', '50', '51', '52']);
  assert.equal(second.live, true);
  assert.deepEqual(first.got, ['open', '51', '52']);
  assert.deepEqual(server.open, [stream]);
});

it('an id from another stream that is ahead of the open one is asked about once, and nothing comes twice', async (server) => {
  const { fetch } = server;
  listen(address, { fetch });
  await settle();
  const [stream] = server.requests;
  stream.begin(position(50)); // since then, only other topics have got messages
  await settle();
  const source = listen(`${address}?lastEventId=e-90`, { fetch });
  await pass(100);
  server.last.begin(position(90));
  server.last.end();
  await settle();
  assert.equal(source.live, true);
  stream.write(message(91));
  await pass(10_000);
  assert.deepEqual(source.got, ['open', '91']);
  assert.equal(server.requests.length, 2);
});

it('an instance that lacks nothing of a quiet topic is live, although the stream has begun later', async (server) => {
  const { fetch } = server;
  listen(address, { fetch });
  await settle();
  const [stream] = server.requests;
  stream.begin(position(100)); // the numbers are those of other topics
  await settle();
  const sources = [60, 70].map((id) => listen(`${address}?lastEventId=e-${id}`, { fetch }));
  await pass(100);
  const [, sixty, seventy] = server.requests;
  sixty.begin(position(60, { live: false }), message(65), position(100));
  seventy.begin(position(110));
  await settle();
  assert.deepEqual(sources.map(({ live }) => live), [true, true]);
  stream.write(message(111));
  await pass(10_000);
  assert.deepEqual(sources.map(({ got }) => got.join()), ['open,65,111', 'open,111']);
  assert.equal(server.requests.length, 3);
});

it('a part that breaks off is fetched again from there', async (server) => {
  const { fetch } = server;
  listen(address, { fetch });
  await settle();
  server.last.begin(position(9));
  const source = listen(`${address}?lastEventId=earliest`, { fetch });
  await pass(100);
  server.last.begin(position(0, { live: false }), message(1));
  await settle();
  server.last.end();
  await pass(5_000);
  assert.deepEqual([server.last.lastId, server.last.finite], ['e-1', true]);
  server.last.begin(position(1, { live: false }), message(2), position(9));
  await settle();
  assert.deepEqual(source.got, ['open', '1', '2']);
  assert.equal(source.live, true);
});

it('a server that knows no finite reading gives older messages too', async (server) => {
  const { fetch } = server;
  listen(address, { fetch });
  await settle();
  const [stream] = server.requests;
  stream.begin(position(3, {}), message(4));
  await settle();
  const source = listen(`${address}?lastEventId=earliest`, { fetch });
  await pass(100);
  server.last.begin(position(0, {}), message(1), message(4)); // and goes on
  await settle();
  stream.write(message(5));
  await settle();
  assert.deepEqual(source.got, ['open', '1', '4', '5']);
  assert.deepEqual(server.open, [stream]);
});

it('a part that is refused closes its own instance alone', async (server) => {
  const { fetch } = server;
  const first = listen(address, { fetch });
  await settle();
  server.last.begin(position(9));
  await settle();
  const source = listen(`${address}?lastEventId=e-1`, { fetch });
  await pass(100);
  server.last.answer(403);
  await settle();
  assert.deepEqual([first.readyState, source.readyState], [OPEN, CLOSED]);
});

it('mounting, unmounting and mounting again in one task sends one request', async (server) => {
  const { fetch } = server;
  for (const query of ['', '?lastEventId=earliest']) {
    const before = server.requests.length;
    listen(address + query, { fetch }).close();
    const source = listen(address + query, { fetch });
    await settle();
    assert.equal(server.requests.length, before + 1);
    server.last.begin(position(0), message(1));
    await pass(3_000);
    assert.deepEqual(source.got, ['open', '1']);
    source.close();
    await pass(1_500);
  }
});

it('a connection outlives its last instance by a second', async (server) => {
  const { fetch } = server;
  for (let n = 0; n < 100; n++) {
    listen(address, { fetch }).close();
    await pass(n === 0 ? 500 : 100);
    if (n === 0) server.last.begin(position(0));
  }
  await pass(800);
  assert.equal(server.requests.length, 1);
  assert.equal(server.last.aborted, false);
  const source = listen(address, { fetch });
  await pass(500);
  server.last.write(message(1));
  await settle();
  assert.deepEqual(source.got, ['open', '1']);
  source.close();
  await pass(1_100);
  assert.equal(server.last.aborted, true);
  listen(address, { fetch });
  await settle();
  assert.equal(server.requests.length, 2);
});

for (const [retry, least, most] of [['0', 1_000, 1_300], ['10', 1_000, 1_300], ['2000', 2_000, 2_600], ['2147483648', 60_000, 75_100], ['99999999999', 60_000, 75_100]]) {
  it(`retry:${retry} is ${least / 1_000} s`, async (server) => {
    listen(address, { fetch: server.fetch });
    await settle();
    server.last.begin(`retry:${retry}\n\n`);
    server.last.end();
    await pass(least - 100);
    assert.equal(server.requests.length, 1);
    await pass(most - least + 200);
    assert.equal(server.requests.length, 2);
  });
}

it('a connection in doubt is replaced within 3 s, and not if it is alive', async (server) => {
  const source = listen(address, { fetch: server.fetch });
  await settle();
  const [dead] = server.requests;
  dead.begin(position(0), message(1));
  await pass(500);
  source.reconnect();
  dead.write(':\n\n');
  await pass(1_800);
  assert.equal(server.requests.length, 1);
  dead.write(':\n\n');
  await settle();
  source.reconnect();
  await pass(1_900);
  assert.equal(server.requests.length, 1);
  await pass(200);
  assert.equal(server.requests.length, 2);
  assert.equal(dead.aborted, false);
  server.last.begin(position(1, { live: false }), message(2), position(2));
  await settle();
  assert.equal(dead.aborted, true);
  assert.deepEqual(source.got, ['open', '1', '2']);
});

it('a connection in doubt is lost if there is no other', async (server) => {
  const source = listen(address, { fetch: server.fetch });
  await settle();
  server.last.begin(position(0));
  await pass(10_000);
  source.reconnect();
  await pass(100);
  server.last.fail();
  await settle();
  assert.equal(source.readyState, CONNECTING);
  assert.equal(source.got.at(-1), 'error');
  assert.equal(source.lostAt, clock.now - 10_100);
  source.reconnect();
  await settle();
  assert.equal(server.requests.length, 3);
});

for (const [keepalive, patience] of [[1_000, 6_000], [15_000, 40_000], [60_000, 153_000]]) {
  it(`with a comment every ${keepalive / 1_000} s a silent connection is lost after ${patience / 1_000} s`, async (server) => {
    const source = listen(address, { fetch: server.fetch });
    await settle();
    server.last.begin(position(0));
    // A server that is quieter than most is replaced a few times, until it is known.
    for (let n = 0; n < 30; n++) {
      await pass(keepalive);
      if (server.open.length === 0) {
        await pass(40_000);
        server.last.begin(position(0));
      } else server.last.write(':\n\n');
    }
    assert.equal(source.readyState, OPEN);
    const errors = source.got.length;
    await pass(patience - 2_000);
    assert.equal(source.got.length, errors);
    await pass(3_000);
    assert.equal(source.got.length, errors + 1);
  });
}

it('an AbortSignal closes it', async (server) => {
  const controller = new AbortController();
  const source = listen(address, { fetch: server.fetch, signal: controller.signal });
  await settle();
  server.last.begin(position(0));
  await settle();
  controller.abort();
  assert.equal(source.readyState, CLOSED);
  await pass(1_100);
  assert.equal(server.last.aborted, true);
  const late = listen(`${address}?late`, { fetch: server.fetch, signal: controller.signal });
  await settle();
  assert.equal(late.readyState, CLOSED);
  assert.equal(server.requests.length, 1);
  late.close();
  late.reconnect();
});

const html = { headers: { 'Content-Type': 'text/html' } };
for (const [status, more, atFirst, later] of [
  [204, {}, CLOSED, CLOSED],
  [200, html, CLOSED, CONNECTING],
  [206, {}, CLOSED, CLOSED],
  [400, {}, CLOSED, CLOSED],
  [401, {}, CLOSED, CLOSED],
  [403, {}, CLOSED, CLOSED],
  [404, {}, CLOSED, CONNECTING],
  [408, {}, CONNECTING, CONNECTING],
  [410, {}, CLOSED, CLOSED],
  [425, {}, CONNECTING, CONNECTING],
  [429, {}, CONNECTING, CONNECTING],
  [431, {}, CLOSED, CLOSED],
  [500, {}, CONNECTING, CONNECTING],
  [502, html, CONNECTING, CONNECTING],
  [503, {}, CONNECTING, CONNECTING],
  [504, {}, CONNECTING, CONNECTING],
]) {
  const names = ['CONNECTING', 'OPEN', 'CLOSED'];
  it(`after ${status}${more === html ? ' with HTML' : ''} it is ${names[atFirst]}, and ${names[later]} if it was open before`, async (server, said) => {
    const first = listen(address, { fetch: server.fetch });
    await settle();
    server.last.answer(status, more);
    await pass(100);
    assert.equal(first.readyState, atFirst);
    assert.deepEqual(first.got, [`error ${status}`]);
    assert.equal(said.callCount(), atFirst === CLOSED && status !== 204 ? 1 : 0);
    first.close();
    await pass(1_100);

    const second = listen(address, { fetch: server.fetch });
    await settle();
    server.last.begin(position(0));
    await settle();
    server.last.end();
    await pass(5_000);
    server.last.answer(status, more);
    await settle();
    assert.equal(second.readyState, later);
  });
}

for (const [url, protocol] of [['ftp://example.not/', 'ftp:'], ['about:blank', 'about:'], ['javascript:alert(1)', 'javascript:']]) {
  it(`${protocol} is an error, not an exception`, async (server, said) => {
    const source = listen(url, { fetch: server.fetch });
    assert.equal(source.readyState, CONNECTING);
    await pass(100);
    assert.deepEqual([source.readyState, source.got, server.requests.length], [CLOSED, ['error'], 0]);
    assert.match(said.calls[0].arguments[0], new RegExp(protocol));
  });
}

it('an error carries what the server said', async (server) => {
  const source = new SharedEventSource(address, { fetch: server.fetch });
  const errors = [];
  source.onerror = ({ status, message, cause }) => errors.push({ status, message, cause: cause?.message });
  await settle();
  server.last.answer(503, { body: '{"error":"the server is full"}', headers: { 'Content-Type': 'application/json; charset=utf-8', 'Retry-After': '20' } });
  await pass(19_900);
  assert.equal(server.requests.length, 1);
  await pass(6_000);
  server.last.answer(502, { body: '<h1>Bad gateway</h1>', headers: { 'Content-Type': 'text/html' } });
  await pass(20_000);
  server.last.answer(503, { body: 'x', headers: { 'Content-Type': 'application/json' } });
  await pass(40_000);
  server.last.fail();
  await settle();
  assert.deepEqual(errors, [
    { status: 503, message: 'the server is full', cause: undefined },
    { status: 502, message: undefined, cause: undefined },
    { status: 503, message: undefined, cause: undefined },
    { status: undefined, message: undefined, cause: 'Failed to fetch' },
  ]);
});

it('a message has its topic and time, and the source says when it has caught up', async (server) => {
  const source = new SharedEventSource(`${address}?topic=a&topic=b`, { fetch: server.fetch });
  const got = [];
  source.onstatechange = () => got.push(`${source.readyState} ${source.live}`);
  source.onmessage = ({ data, topic, time }) => got.push([data, topic, time?.toISOString()]);
  source.ongap = ({ data, lastEventId }) => got.push(['gap', data, lastEventId]);
  await settle();
  server.last.begin(position(1, { live: false }), 'id:e-1\nevent:gap\ndata:{}\n\n', 'id:e-2\ntopic:a\ntime:1800000000123\ndata:x\n\n', message(3), position(7));
  await settle();
  server.last.end();
  await pass(100);
  assert.deepEqual(got, ['1 false', ['gap', '{}', 'e-1'], ['x', 'a', '2027-01-15T08:00:00.123Z'], ['3', '', undefined], '1 true', '0 false']);
  assert.equal(source.lastEventId, 'e-7');
});

it('a tick comes once, also when the connection changes over', async (server) => {
  const source = listen(address, { fetch: server.fetch });
  await settle();
  const [first] = server.requests;
  first.begin(position(0), 'data:tick 1\n\n');
  await pass(5_000);
  source.reconnect();
  await pass(100);
  first.write('data:tick 2\n\n'); // after the new one was asked for
  await settle();
  server.last.begin(position(0), 'data:tick 1\n\n', 'data:tick 2\n\n', 'data:tick 3\n\n');
  await settle();
  const late = listen(address, { fetch: server.fetch });
  await pass(100);
  assert.deepEqual(source.got, ['open', 'tick 1', 'tick 2', 'tick 3']);
  assert.deepEqual(late.got, ['open', 'tick 3']);
  server.last.end();
  await pass(5_000);
  server.last.begin(position(0), 'data:tick 3\n\n', 'data:tick 4\n\n');
  await settle();
  assert.deepEqual(source.got.slice(-3), ['error', 'open', 'tick 4']);
});

it('the streams of other servers are read as EventSource reads them', async (server) => {
  const source = new SharedEventSource(address, { fetch: server.fetch });
  const got = [];
  for (const type of ['message', 'position', 'gap']) source.addEventListener(type, ({ data, lastEventId }) => got.push([type, data, lastEventId]));
  await settle();
  server.last.begin('id:a-9\ndata:x\n\n', 'data:x\n\n', 'id:a-2\ndata:y\n\n', 'event:position\ndata:{"lat":1}\n\n', 'data:y\n\n', 'data:y\n\n', 'id\ndata:z\n\n');
  await settle();
  server.last.end();
  await pass(5_000);
  assert.equal(server.last.lastId, null);
  server.last.begin('event:position\nid:b\ndata:{"lat":2}\n\n', 'data:z\n\n');
  await settle();
  assert.equal(source.live, true);
  assert.deepEqual(got, [
    ['message', 'x', 'a-9'], ['message', 'x', 'a-9'], ['message', 'y', 'a-2'], ['position', '{"lat":1}', 'a-2'], ['message', 'y', 'a-2'], ['message', 'y', 'a-2'],
    ['message', 'z', ''], ['position', '{"lat":2}', 'b'], ['message', 'z', 'b'],
  ]);
});

it('nothing comes after close, wherever it is called', async (server) => {
  for (const type of ['open', 'message', 'statechange', 'error']) {
    const source = listen(`${address}?${type}`, { fetch: server.fetch });
    const after = [];
    source.addEventListener(type, () => {
      source.close();
      for (const other of ['open', 'message', 'error']) source.addEventListener(other, () => after.push(other));
    }, { once: true });
    await settle();
    if (type === 'error') server.last.answer(503);
    else server.last.begin(position(0), message(1), message(2));
    await pass(100);
    assert.equal(source.readyState, CLOSED);
    assert.deepEqual(after.filter((other) => other !== type), [], type);
  }
});

it('a relative address without a page says what is missing', () => {
  assert.throws(() => new SharedEventSource('/sse'), { name: 'SyntaxError', message: /must be absolute/ });
});
