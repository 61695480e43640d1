// An EventSource that all tabs of an origin share, and that comes back after any error. See docs/browser.md.

import { connect } from './connection.js';
import { share } from './tabs.js';

// The version of the messages between tabs. Raise it with every change to them: tabs of different versions do not
// share a connection.
const version = 2;

export class SharedEventSource extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSED = 2;
  CONNECTING = 0;
  OPEN = 1;
  CLOSED = 2;

  onopen = null;
  onmessage = null;
  onerror = null;
  ongap = null; // the server no longer has all that this client missed
  onstatechange = null; // readyState has changed

  readyState = 0;
  lostAt; // when the last byte of the lost connection came, as Date.now() counts; undefined while there is a connection

  #share;

  constructor(url, { withCredentials = false, headers = {}, renew } = {}) {
    super();
    try {
      this.url = new URL(url, document.baseURI).href;
    } catch {
      throw new DOMException(`Cannot open an EventSource to '${url}': the URL is invalid.`, 'SyntaxError');
    }
    this.withCredentials = Boolean(withCredentials);
    for (const type of ['open', 'message', 'error', 'gap', 'statechange']) {
      this.addEventListener(type, (event) => this[`on${type}`]?.(event));
    }

    // Each tab may begin at another id. Tabs share a connection if the rest of the address is the same.
    const address = new URL(this.url);
    const lastId = address.searchParams.get('lastEventId') ?? '';
    address.searchParams.delete('lastEventId');
    const init = { headers: { Accept: 'text/event-stream', ...headers }, credentials: withCredentials ? 'include' : 'same-origin' };
    this.#share = share({
      name: JSON.stringify(['SharedEventSource', version, address.href, init, Boolean(renew)]),
      lastId,
      open: (handlers) => connect({ url: address.href, init, renew, ...handlers }),
      onevent: ({ type, data, id, origin }) => this.#dispatch(new MessageEvent(type, { data, lastEventId: id, origin })),
      onstate: (state) => this.#change(state),
    });
  }

  // lastEventId is the id after which another EventSource can resume: new SharedEventSource(`/sse?lastEventId=${id}`).
  get lastEventId() {
    return this.#share.lastId();
  }

  // reconnect connects now, instead of waiting for the next attempt.
  reconnect() {
    this.#share.check();
  }

  close() {
    this.#share.close();
    this.#change({ readyState: this.CLOSED });
  }

  #change({ readyState, failures, status, since }) {
    const before = this.readyState;
    if (before === this.CLOSED) return;
    this.readyState = readyState;
    this.lostAt = readyState === this.OPEN ? undefined : since;
    if (readyState !== before) this.dispatchEvent(new Event('statechange'));
    if (readyState === this.OPEN && before !== this.OPEN) this.#dispatch(new Event('open'));
    if (failures) this.#dispatch(Object.assign(new Event('error'), { status }));
  }

  #dispatch(event) {
    if (this.readyState !== this.CLOSED || event.type === 'error') this.dispatchEvent(event);
  }
}
