// An EventSource that all tabs of an origin share, and that comes back after any error that can pass. See docs/browser.md.

import { connect, toHeaders } from './connection.js';
import { enter } from './page.js';
import { createReader } from './reader.js';

// The version of the messages between tabs. Raise it with every change to them: tabs of different versions do not
// share a connection.
const version = 3;

const [CONNECTING, OPEN, CLOSED] = [0, 1, 2];
const numbers = new WeakMap(); // of functions, so that only those who have the same one share
let count = 0;

export class SharedEventSource extends EventTarget {
  static {
    for (const target of [this, this.prototype]) {
      for (const [name, value] of Object.entries({ CONNECTING, OPEN, CLOSED })) Object.defineProperty(target, name, { value, enumerable: true });
    }
    // gap: the server no longer has all that this client missed; statechange: readyState or live has changed
    for (const type of ['open', 'message', 'error', 'gap', 'statechange']) {
      Object.defineProperty(this.prototype, `on${type}`, {
        get() { return this.#handlers[type] ?? null; },
        set(handler) {
          if (!(type in this.#handlers)) this.addEventListener(type, (event) => this.#handlers[type]?.call(this, event));
          this.#handlers[type] = typeof handler === 'function' ? handler : null;
        },
        enumerable: true,
        configurable: true,
      });
    }
    Object.defineProperty(this.prototype, Symbol.toStringTag, { value: 'EventSource', configurable: true });
  }

  #handlers = {};
  #url;
  #withCredentials;
  #state = { readyState: CONNECTING, live: false };
  #stream;
  #reader;
  #listener = { hear: (event) => this.#reader.hear(event), tell: () => this.#tell() };
  #life = new AbortController();

  constructor(url, options = null) {
    if (arguments.length === 0) throw new TypeError('SharedEventSource needs a URL');
    super();
    const { withCredentials, headers, renew, shareKey, signal, fetch } = options ?? {};
    const base = globalThis.document?.baseURI ?? globalThis.location?.href;
    try {
      this.#url = new URL(url, base).href;
    } catch {
      throw new DOMException(`The URL '${url}' is invalid${base ? '' : ': here it must be absolute'}.`, 'SyntaxError');
    }
    for (const [name, value] of Object.entries({ renew, fetch })) {
      if (value !== undefined && typeof value !== 'function') throw new TypeError(`${name} must be a function, not ${value}`);
    }
    const sent = typeof headers === 'function' ? undefined : [...toHeaders(headers)];
    this.#withCredentials = Boolean(withCredentials);
    if (signal?.aborted) return void this.close();
    signal?.addEventListener('abort', () => this.close(), { signal: this.#life.signal });

    // Each may begin at another id. They share a connection if they ask for the same otherwise.
    const address = new URL(this.#url);
    const { searchParams } = address;
    const lastId = searchParams.get('lastEventId') ?? '';
    searchParams.delete('lastEventId');
    address.hash = '';
    const credentials = withCredentials ? 'include' : 'same-origin';
    const asks = [address.origin, address.pathname, [...searchParams].sort(), credentials, sent, shareKey, Boolean(renew)];
    const own = [headers, fetch].filter((option) => typeof option === 'function');
    this.#stream = enter(this.#listener, {
      key: JSON.stringify([asks, own.map(numberOf)]),
      name: own.length > 0 && shareKey === undefined ? undefined : JSON.stringify(['SharedEventSource', version, asks, own.length]),
      lastId,
      renew,
      connect({ finite, ...options }) {
        const url = new URL(address);
        if (finite) url.searchParams.set('follow', 'false');
        return connect({ url, init: { credentials }, headers: sent ?? headers, fetch, ...options });
      },
    });
    this.#reader = createReader({
      lastId,
      open: this.#stream.open,
      onevent: ({ isPosition, type, data, lastEventId, origin, topic, time }) => {
        if (isPosition || this.readyState === CLOSED) return;
        const event = new MessageEvent(type, { data, lastEventId, origin });
        this.dispatchEvent(Object.assign(event, { topic, time: time && new Date(time) }));
      },
      onjoin: () => this.#tell(),
      onend: (lost) => this.#change({ ...lost, readyState: CLOSED, failures: 1 }),
    });
    setTimeout(() => this.#tell()); // not yet: there are no handlers
  }

  get url() { return this.#url; }
  get withCredentials() { return this.#withCredentials; }
  get readyState() { return this.#state.readyState; }

  // live: all that was kept has come, and what comes now is new.
  get live() { return this.#state.live; }

  // lostAt is when the last byte of the lost connection came, as Date.now() counts; undefined while there is a connection.
  get lostAt() { return this.readyState === OPEN ? undefined : this.#state.since; }

  // lastEventId is the id after which another EventSource can resume: new SharedEventSource(`/sse?lastEventId=${id}`).
  get lastEventId() { return this.#reader?.lastId ?? ''; }

  // reconnect connects now, instead of waiting for the next attempt.
  reconnect() {
    if (this.readyState !== CLOSED) this.#stream.shared.check();
  }

  close() {
    this.#change({ readyState: CLOSED });
  }

  #tell() {
    const { shared, state } = this.#stream;
    const adopt = () => this.#change({ ...state, live: state.live && this.#reader.following });
    if (state.readyState === OPEN) adopt(); // first, as open comes before what the stream brings
    this.#reader.meet(shared.lastId(), { isOpen: state.readyState !== CONNECTING, live: state.live, tick: shared.tick() });
    if (state.readyState !== CLOSED || !this.#reader.seeking) adopt();
  }

  #change(to) {
    const was = this.#state;
    if (was.readyState === CLOSED) return;
    const { readyState, live = false, failures, status, message, cause } = to;
    const now = (this.#state = { since: was.since, ...to, live });
    if (readyState === CLOSED) {
      this.#life.abort();
      this.#stream?.leave(this.#listener);
      this.#reader?.close();
    }
    if (readyState !== was.readyState || live !== was.live) this.dispatchEvent(new Event('statechange'));
    if (now === this.#state && readyState === OPEN && was.readyState !== OPEN) this.dispatchEvent(new Event('open'));
    if (now !== this.#state || !failures || failures === was.failures) return;
    if (readyState === CLOSED && status !== 204) console.error(`The stream ${this.#url} is closed: ${message ?? (status ? `the answer was ${status}` : cause)}`);
    this.dispatchEvent(Object.assign(new Event('error'), { status, message, cause }));
  }
}

function numberOf(option) {
  if (!numbers.has(option)) numbers.set(option, ++count);
  return numbers.get(option);
}
