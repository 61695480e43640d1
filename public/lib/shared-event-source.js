// An EventSource that all tabs of an origin share, and that comes back after any error that can pass. See docs/browser.md.

import { connect, toHeaders } from './connection.js';
import { createReader } from './reader.js';
import { share } from './tabs.js';

const version = 4; // of the messages between tabs: raise it with every change to them, as tabs of different versions do not share
const [CONNECTING, OPEN, CLOSED] = [0, 1, 2];
const numbers = new WeakMap(); // of functions, so that only instances with the same one share
const numberOf = (option) => numbers.get(option) ?? numbers.set(option, Math.random()).get(option);

export class SharedEventSource extends EventTarget {
  static {
    for (const [name, value] of Object.entries({ CONNECTING, OPEN, CLOSED })) {
      for (const target of [this, this.prototype]) Object.defineProperty(target, name, { value, enumerable: true });
    }
    Object.defineProperty(this.prototype, Symbol.toStringTag, { value: 'EventSource', configurable: true });
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
  }

  #handlers = {};
  #url; #withCredentials; #reader;
  #stream; // of this page
  #state = { readyState: CONNECTING, live: false };
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
    const address = Object.assign(new URL(this.#url), { hash: '' });
    const lastId = address.searchParams.get('lastEventId') ?? '';
    address.searchParams.delete('lastEventId');
    const init = { credentials: withCredentials ? 'include' : 'same-origin' };
    const asks = [address.origin, address.pathname, [...address.searchParams].sort(), init, sent, shareKey, Boolean(renew)];
    const own = [headers, fetch].filter((option) => typeof option === 'function');
    this.#stream = share(this.#listener, {
      key: JSON.stringify([asks, own.map(numberOf)]),
      name: own.length > 0 && shareKey === undefined ? undefined : JSON.stringify(['SharedEventSource', version, asks, own.length]),
      lastId,
      renew,
      connect({ finite, ...more }) {
        const url = new URL(address);
        if (finite) url.searchParams.set('follow', 'false');
        return connect({ url, init, headers: sent ?? headers, fetch, ...more });
      },
    });
    this.#reader = createReader({
      lastId,
      open: this.#stream.open,
      onevent: ({ isPosition, type, data, lastEventId, origin, topic, time }) => {
        if (isPosition) return;
        for (const kind of type === 'message' || type === 'gap' ? [type] : [type, '*']) { // '*' for pages that do not know the names
          const event = new MessageEvent(kind, { data, lastEventId, origin });
          if (this.readyState !== CLOSED) this.dispatchEvent(Object.assign(event, { topic, time: time && new Date(time), name: type }));
        }
      },
      onjoin: () => this.#tell(),
      onend: (lost) => this.#change({ ...lost, readyState: CLOSED, failures: 1 }),
    });
    setTimeout(() => this.#tell()); // not yet: there are no handlers
  }

  get url() { return this.#url; }
  get withCredentials() { return this.#withCredentials; }
  get readyState() { return this.#state.readyState; }
  get live() { return this.#state.live; } // all that was kept has come, and what comes now is new
  get lostAt() { return this.readyState === OPEN ? undefined : this.#state.since; } // when the last byte of the lost connection came
  get lastEventId() { return this.#reader?.lastId ?? ''; } // after which another EventSource can resume
  reconnect() { if (this.readyState !== CLOSED) this.#stream.check(); } // now, instead of waiting for the next attempt
  close() { this.#change({ readyState: CLOSED }); }

  #tell() {
    const { state, lastId, tick } = this.#stream;
    const adopt = () => this.#change({ ...state, live: state.live && this.#reader.following });
    if (state.readyState === OPEN) adopt(); // first, as open comes before what the stream brings
    this.#reader.meet(lastId, state, tick);
    if (state.readyState !== CLOSED || !this.#reader.seeking) adopt();
  }

  #change({ live = false, readyState, ...more }) {
    const [was, { failures, status, message, cause }] = [this.#state, more];
    if (was.readyState === CLOSED) return;
    const now = (this.#state = { since: was.since, readyState, live, ...more });
    if (readyState === CLOSED) {
      this.#life.abort();
      this.#stream?.leave(this.#listener);
      this.#reader?.close();
    }
    if (readyState !== was.readyState || live !== was.live) this.dispatchEvent(new Event('statechange'));
    if (now === this.#state && readyState === OPEN && was.readyState !== OPEN) this.dispatchEvent(new Event('open'));
    if (now !== this.#state || !failures || failures === was.failures) return;
    if (readyState === CLOSED && status !== 204) console.error(`The stream ${this.#url} is closed: ${message ?? cause ?? `the answer was ${status}`}`);
    this.dispatchEvent(Object.assign(new Event('error'), { status, message, cause }));
  }
}
