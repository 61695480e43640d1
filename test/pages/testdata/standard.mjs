// The cases of the HTML standard, section 9.2 "Server-sent events", as they are also in the Web Platform Tests. Each
// works with the browser's own EventSource or with another class that claims to be one, in a page or in a worker.

const base = new URL('/standard/', location.href);
const other = new URL(base);
other.port = new URLSearchParams(location.search).get('other'); // another origin, the same server

const stream = (message, more = {}) => {
  const url = new URL('stream', base);
  url.search = new URLSearchParams({ message, ...more });
  return url.href;
};
const at = (path, from = base) => new URL(path, from).href;
let count = 0;
const once = () => `id=${Date.now()}-${Math.random()}-${++count}`; // a state of its own at the server

// check throws unless the two are equal.
function check(got, want, what) {
  const [a, b] = [got, want].map((value) => JSON.stringify(value) ?? String(value));
  if (a !== b) throw new Error(`${what}: ${a}, want ${b}`);
}

// until waits for an event; message(source) for the next message.
const until = (source, type) => new Promise((resolve) => source.addEventListener(type, resolve, { once: true }));

// messages opens a stream and returns what came, as [data, lastEventId, type], when it has ended.
async function messages(EventSource, url, { types = ['message'], options, ends = 1 } = {}) {
  const source = new EventSource(url, options);
  const got = [];
  for (const type of types) source.addEventListener(type, (event) => got.push([event.data, event.lastEventId, event.type]));
  for (let n = 0; n < ends; n++) await until(source, 'error');
  source.close();
  return got;
}
const data = async (EventSource, url, more) => (await messages(EventSource, url, more)).map(([text]) => text);

async function closes(EventSource, url, options) {
  const source = new EventSource(url, options);
  let [opened, got] = [false, 0];
  source.onopen = () => { opened = true; };
  source.onmessage = () => { got++; };
  const event = await until(source, 'error');
  const { readyState } = source;
  source.close();
  check([readyState, opened, got, 'data' in event], [2, false, 0, false], 'readyState, opened, messages, data at the error');
}

// parses is a case about the text of a stream alone.
const parses = (message, want, more) => async (EventSource) => {
  const query = { ...more };
  const { types } = query;
  delete query.types;
  check(await data(EventSource, stream(message, query), { types }), want, 'data');
};

export const cases = {
  // 9.2.2 The EventSource interface
  'the constructor needs new': (EventSource) => throws(TypeError, () => EventSource('/standard/stream')),
  'the constructor needs a URL': (EventSource) => throws(TypeError, () => new EventSource()),
  'a URL that cannot be parsed is a SyntaxError': (EventSource) => throws('SyntaxError', () => new EventSource('http://invalid:99999/')),
  'the URL is turned into a string': async (EventSource) => {
    const source = new EventSource({ toString: () => stream('data:ok') });
    check((await until(source, 'message')).data, 'ok', 'data');
    source.close();
  },
  'the URL is relative to the page or worker': async (EventSource) => {
    const source = new EventSource('/standard/stream?message=data:ok');
    check(source.url, at('/standard/stream?message=data:ok'), 'url');
    check((await until(source, 'message')).data, 'ok', 'data');
    source.close();
  },
  'the URL may be empty': (EventSource) => {
    const source = new EventSource('');
    check(source.url.replace(/#.*/, ''), (globalThis.document?.baseURI ?? location.href).replace(/#.*/, ''), 'url');
    source.close();
  },
  'ftp: is a network error': (EventSource) => closes(EventSource, 'ftp://example.not/'),
  'about: is a network error': (EventSource) => closes(EventSource, 'about:blank'),
  'mailto: is a network error': (EventSource) => closes(EventSource, 'mailto:whatwg@awesome.example'),
  'javascript: is a network error': (EventSource) => closes(EventSource, "javascript:alert('FAIL')"),
  'the constants': (EventSource) => {
    const source = new EventSource(stream('data:x'));
    for (const [name, value] of Object.entries({ CONNECTING: 0, OPEN: 1, CLOSED: 2 })) {
      check([EventSource[name], source[name]], [value, value], name);
      for (const target of [EventSource, EventSource.prototype]) {
        const { writable, enumerable, configurable } = Object.getOwnPropertyDescriptor(target, name);
        check([writable, enumerable, configurable], [false, true, false], name);
      }
    }
    source.close();
  },
  'the interface has one required argument': (EventSource) => check(EventSource.length, 1, 'length'),
  'the prototype can be extended': (EventSource) => {
    EventSource.prototype.ReturnTrue = () => true;
    const source = new EventSource(stream('data:x'));
    source.close();
    check(source.ReturnTrue(), true, 'result');
    delete EventSource.prototype.ReturnTrue;
  },
  'it is an EventTarget': (EventSource) => {
    const source = new EventSource(stream('data:x'));
    source.close();
    check([source instanceof EventTarget, source instanceof EventSource], [true, true], 'instanceof');
  },
  'its string form': (EventSource) => {
    const source = new EventSource(stream('data:x'));
    source.close();
    check(String(source), '[object EventSource]', 'string');
  },
  'url, readyState and withCredentials are read-only': (EventSource) => {
    const source = new EventSource(stream('data:x'));
    const { url } = source;
    for (const [name, value] of [['url', 'x'], ['readyState', 7], ['withCredentials', true]]) {
      try {
        source[name] = value;
      } catch {} // this is a module, and so strict
    }
    check([source.url, source.readyState, source.withCredentials], [url, 0, false], 'values');
    source.close();
  },
  'handler properties take functions alone': (EventSource) => {
    const source = new EventSource(stream('data:x'));
    for (const name of ['onopen', 'onmessage', 'onerror']) {
      check(source[name], null, name);
      for (const value of [5, 'text', undefined, null]) {
        source[name] = value;
        check(source[name], null, name);
      }
      const handler = () => {};
      source[name] = handler;
      check(source[name] === handler, true, name);
      check(name in EventSource.prototype, true, name);
    }
    source.close();
  },
  'a handler is called where it was first set, among the listeners': async (EventSource) => {
    const source = new EventSource(stream('data:x'));
    const order = [];
    source.addEventListener('message', () => order.push('a'));
    source.onmessage = () => order.push('not this one');
    source.addEventListener('message', () => order.push('c'));
    source.onmessage = function () { order.push(this === source ? 'b' : 'this'); };
    await until(source, 'message');
    source.close();
    check(order, ['a', 'b', 'c'], 'order');
  },
  'options may be null': (EventSource) => {
    const source = new EventSource(stream('data:x'), null);
    check(source.withCredentials, false, 'withCredentials');
    source.close();
  },
  'withCredentials': (EventSource) => {
    const source = new EventSource(stream('data:x'), { withCredentials: 1 });
    check(source.withCredentials, true, 'withCredentials');
    source.close();
  },
  'readyState is CONNECTING, OPEN, CLOSED': async (EventSource) => {
    const source = new EventSource(stream('data:x'));
    check(source.readyState, 0, 'before');
    await until(source, 'open');
    check(source.readyState, 1, 'at open');
    source.close();
    check(source.readyState, 2, 'closed');
  },
  'the event open is plain and not cancelable': async (EventSource) => {
    const source = new EventSource(stream('data:x'));
    const event = await until(source, 'open');
    check([event.bubbles, event.cancelable, 'data' in event], [false, false, false], 'event');
    source.close();
  },
  'a message neither bubbles nor can be cancelled': async (EventSource) => {
    const source = new EventSource(stream('data:data'));
    const event = await until(source, 'message');
    check([event instanceof MessageEvent, event.bubbles, event.cancelable, event.data, event.origin, event.ports.length, event.source], [true, false, false, 'data', base.origin, 0, null], 'event');
    source.close();
  },
  'a message is trusted': async (EventSource) => {
    const source = new EventSource(stream('data:data'));
    check((await until(source, 'message')).isTrusted, true, 'isTrusted');
    source.close();
  },
  'close before the connection is there': async (EventSource) => {
    const source = new EventSource(stream('data:x'));
    source.close();
    let events = 0;
    for (const type of ['open', 'message', 'error']) source.addEventListener(type, () => events++);
    await fetch(stream('data:x')); // longer than the stream would have taken
    check([source.readyState, events], [2, 0], 'readyState, events');
  },
  'close in a message stops those after it': async (EventSource) => {
    const source = new EventSource(stream('data:1\n\ndata:2\n\ndata:3'));
    let got = 0;
    source.onmessage = () => { got++; source.close(); };
    await until(source, 'message');
    await fetch(stream('data:x'));
    check(got, 1, 'messages');
  },

  // 9.2.3 Processing model
  'Accept is text/event-stream': async (EventSource) => check((await data(EventSource, at('headers?name=Accept')))[0], 'text/event-stream', 'Accept'),
  'the request passes caches': async (EventSource) => check((await data(EventSource, at('headers?name=Cache-Control')))[0], 'no-cache', 'Cache-Control'),
  'a redirect 301 is followed': (EventSource) => redirects(EventSource, 301),
  'a redirect 302 is followed': (EventSource) => redirects(EventSource, 302),
  'a redirect 303 is followed': (EventSource) => redirects(EventSource, 303),
  'a redirect 307 is followed': (EventSource) => redirects(EventSource, 307),
  'the status 204 closes': (EventSource) => closes(EventSource, at('status?status=204')),
  'the status 205 closes': (EventSource) => closes(EventSource, at('status?status=205')),
  'the status 210 closes': (EventSource) => closes(EventSource, at('status?status=210')),
  'the status 299 closes': (EventSource) => closes(EventSource, at('status?status=299')),
  'the status 400 closes': (EventSource) => closes(EventSource, at('status?status=400')),
  'the status 401 closes': (EventSource) => closes(EventSource, at('status?status=401')),
  'the status 403 closes': (EventSource) => closes(EventSource, at('status?status=403')),
  'the status 404 closes': (EventSource) => closes(EventSource, at('status?status=404')),
  'the status 410 closes': (EventSource) => closes(EventSource, at('status?status=410')),
  'the status 503 closes': (EventSource) => closes(EventSource, at('status?status=503')),
  'another content type closes': (EventSource) => closes(EventSource, stream('data:x', { mime: 'text/x-bogus' })),
  'a content type that only begins alike closes': (EventSource) => closes(EventSource, stream('data:x', { mime: 'text/event-streams' })),
  'no content type closes': (EventSource) => closes(EventSource, stream('data:x', { mime: 'x' })),
  'text/event-stream; is a stream': parses('data:data', ['data'], { mime: 'text/event-stream;' }),
  'text/event-stream with a bogus parameter is a stream': parses('data:data', ['data'], { mime: 'text/event-stream;x=bogus' }),
  'text/event-stream in other letters is a stream': parses('data:data', ['data'], { mime: 'Text/Event-STREAM' }),
  'it is UTF-8 whatever the charset says': parses('data:ok…', ['ok…'], { mime: 'text/event-stream;charset=windows-1252' }),
  'after the end it comes back, with an error in between': async (EventSource) => {
    const source = new EventSource(at(`comes-back?${once()}`));
    const happened = [];
    for (const type of ['open', 'message', 'error']) source.addEventListener(type, (event) => happened.push([type, event.data ?? source.readyState]));
    while (happened.filter(([type]) => type === 'error').length < 3) await until(source, 'error');
    check(happened, [['open', 1], ['message', 'opened'], ['error', 0], ['open', 1], ['message', 'reconnected'], ['error', 0], ['error', 2]], 'events');
  },
  'an empty stream is opened again': async (EventSource) => {
    const source = new EventSource(at(`empty-first?${once()}`));
    check((await until(source, 'message')).data, 'data', 'data');
    source.close();
  },
  'retry: is how long it waits': (EventSource) => waits(EventSource, 'retry:3000\n\ndata:x', 2_900),
  'retry: with a leading zero': (EventSource) => waits(EventSource, 'retry:03000\n\ndata:x', 2_900),
  'retry: that is no number changes nothing': (EventSource) => waits(EventSource, 'retry:3000\n\nretry:1000x\n\ndata:x', 2_900),
  'retry: that is empty changes nothing': (EventSource) => waits(EventSource, 'retry:3000\n\nretry\n\ndata:x', 2_900),
  'Last-Event-ID': async (EventSource) => check(await data(EventSource, at(`last-event-id?value=a-1&${once()}`), { ends: 2 }), ['hello', 'a-1'], 'data'),
  'Last-Event-ID beyond ASCII': async (EventSource) => check(await data(EventSource, at(`last-event-id?value=…&${once()}`), { ends: 2 }), ['hello', '…'], 'data'),
  'no Last-Event-ID after an empty id': async (EventSource) => check(await data(EventSource, at(`last-event-id?value=&${once()}`), { ends: 2 }), ['hello', ''], 'data'),
  'no Last-Event-ID after an id with a null': async (EventSource) => check(await data(EventSource, at(`last-event-id?value=%00a&${once()}`), { ends: 2 }), ['hello', ''], 'data'),
  'another site that allows it': async (EventSource) => {
    const source = new EventSource(at('cors', other), { withCredentials: true });
    const event = await until(source, 'message');
    check([event.data, event.origin], ['data', other.origin], 'data, origin');
    source.close();
  },
  'another site that redirects': async (EventSource) => {
    const source = new EventSource(at('cors?redirect=/standard/cors', other), { withCredentials: true });
    const event = await until(source, 'message');
    check([event.data, event.origin], ['data', other.origin], 'data, origin');
    source.close();
  },
  'another site after a new attempt': async (EventSource) => {
    const source = new EventSource(at(`empty-first?${once()}`, other), { withCredentials: true });
    check((await until(source, 'message')).data, 'data', 'data');
    source.close();
  },
  'another site that allows others alone closes': (EventSource) => closes(EventSource, at('cors?origin=http://example.org', other)),
  'another site that allows an empty origin closes': (EventSource) => closes(EventSource, at('cors?origin=', other)),
  'another site that allows none closes': (EventSource) => closes(EventSource, at('cors?none', other)),
  'cookies to another site with credentials': (EventSource) => cookies(EventSource, { withCredentials: true }, ['first', 'second 1']),
  'no cookies to another site without credentials': (EventSource) => cookies(EventSource, { withCredentials: false }, ['first', 'second']),
  'no cookies to another site by default': (EventSource) => cookies(EventSource, {}, ['first', 'second']),

  // 9.2.5 and 9.2.6 Parsing and interpreting an event stream
  'a leading byte order mark is left out': parses('\uFEFFdata:1\n\n\uFEFFdata:2\n\ndata:3', ['1', '3']),
  'a second byte order mark is not': parses('\uFEFF\uFEFFdata:1\n\ndata:2\n\ndata:3', ['2', '3']),
  'comments': parses('data:1\r:\0\n:\r\ndata:2\n:' + 'x'.repeat(5_000) + '\rdata:3\n:data:fail\r:' + 'x'.repeat(5_000) + '\ndata:4', ['1\n2\n3\n4']),
  'an event without its empty line is left out': parses('retry:1000\ndata:test1\n\nid:test\ndata:test2', ['test1'], { open: '1' }),
  'data': parses('data:\n\ndata\ndata\n\ndata:test', ['', '\n', 'test']),
  'data with several lines': parses('data:msg\ndata: msg\n\n:\nfalsefield:msg\n\nfalsefield:msg\nData:data\n\ndata\n\ndata:end', ['msg\nmsg', '', 'end']),
  'an event with a name': parses('event:test\ndata:x\n\ndata:x', ['x', 'x'], { types: ['test', 'message'] }),
  'a listener hears only its own events': parses('event:test\ndata:y\n\ndata:x', ['x']),
  'an empty name is message': parses('event: \ndata:data', ['data']),
  'the name does not last': async (EventSource) => check((await messages(EventSource, stream('event:test\n\ndata:x'))).map(([, , type]) => type), ['message'], 'types'),
  'fields': parses('data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4', ['\0\n 2\n1\n3\n\n4']),
  'unknown fields': parses('data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test', ['test\n\ntest']),
  'one leading space is left out': parses('data:\ttest\rdata: \ndata:test', ['\ttest\n\ntest']),
  'line ends': parses('data:test\r\ndata\ndata:test\r\n\r', ['test\n\ntest'], { newline: 'none' }),
  'line ends in pieces of one byte': parses('data:1\r\ndata:2\r\rdata:3\n\ndata:4\r\n\r\n', ['1\n2', '3', '4'], { newline: 'none', pieces: '1' }),
  'characters in pieces of one byte': parses('data:ok…\u{1F600}', ['ok…\u{1F600}'], { pieces: '1' }),
  'null characters': parses('data:\0\n\n', ['\0']),
  'a mark later on belongs to the name of its field': parses('data:a\n\n\uFEFFdata:b\n\ndata:c', ['a', 'c']),
  'colons': parses('data:::\ndata: :', ['::\n:']),
  'the last name counts': parses('event:no\nevent:test\ndata:a', ['a'], { types: ['test'] }),
  'a name with a space': parses('event:  space\ndata:a', ['a'], { types: [' space'] }),
  'bytes that are not UTF-8': async (EventSource) => check(await data(EventSource, at('not-utf-8')), ['\uFFFD\uFFFD'], 'data'),
  'separators of Unicode end no line': parses('data:a\u2028b\u0085c', ['a\u2028b\u0085c']),
  'the last id counts': async (EventSource) => check(await messages(EventSource, stream('data:a\nid:1\nid:…')), [['a', '…', 'message']], 'messages'),
  'a large event': async (EventSource) => check((await data(EventSource, at('large')))[0].length, 3_000_000, 'length'),
  'id': async (EventSource) => check(await messages(EventSource, stream('data:a\nid:1\n\ndata:b\n\ndata:c\nid:2\n\ndata:d')), [['a', '1', 'message'], ['b', '1', 'message'], ['c', '2', 'message'], ['d', '2', 'message']], 'messages'),
  'an empty id resets it': async (EventSource) => check(await messages(EventSource, stream('data:a\nid:1\n\ndata:b\nid\n\ndata:c')), [['a', '1', 'message'], ['b', '', 'message'], ['c', '', 'message']], 'messages'),
  'an id with a null is ignored': async (EventSource) => check(await messages(EventSource, stream('data:a\nid:1\n\ndata:b\nid:2\0\n\ndata:c')), [['a', '1', 'message'], ['b', '1', 'message'], ['c', '1', 'message']], 'messages'),
  'an id without data counts': async (EventSource) => check(await messages(EventSource, stream('id:1\n\ndata:a')), [['a', '1', 'message']], 'messages'),
};

function throws(expected, f) {
  try {
    f();
  } catch (error) {
    if (typeof expected === 'string' ? error.name === expected && error instanceof DOMException : error instanceof expected) return;
    throw error;
  }
  throw new Error('nothing was thrown');
}

async function redirects(EventSource, status) {
  const source = new EventSource(at(`redirect?status=${status}`));
  const event = await Promise.race([until(source, 'open'), until(source, 'error')]);
  check([event.type, source.readyState], ['open', 1], 'event, readyState');
  source.close();
}

async function waits(EventSource, message, least) {
  const source = new EventSource(stream(message));
  await until(source, 'error');
  const from = performance.now();
  await until(source, 'open');
  source.close();
  const ms = performance.now() - from;
  if (ms < least) throw new Error(`it waited ${Math.round(ms)} ms`);
}

async function cookies(EventSource, options, want) {
  const source = new EventSource(at(`cookie?${once()}`, other), options);
  const got = [];
  source.onmessage = ({ data }) => got.push(data);
  while (got.length < 2) await until(source, 'message');
  source.close();
  check(got, want, 'messages');
}

// run runs all cases, at most four at once, and returns those that fail, with why.
export async function run(EventSource) {
  const failed = {};
  const waiting = Object.entries(cases);
  const worker = async () => {
    for (let next; (next = waiting.shift()); ) {
      const [name, test] = next;
      let timer;
      const late = new Promise((_, reject) => { timer = setTimeout(reject, 10_000, new Error('nothing more happened')); });
      try {
        await Promise.race([test(EventSource), late]);
      } catch (error) {
        failed[name] = error.message;
      }
      clearTimeout(timer);
    }
  };
  await Promise.all([worker(), worker(), worker()]);
  return { failed, total: Object.keys(cases).length };
}
