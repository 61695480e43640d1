import { createReader } from './reader.js';

const [CONNECTING, OPEN, CLOSED] = [0, 1, 2];
const [askInterval, answerTimeout, linger] = [5_000, 8_000, 1_000]; // ms; linger: a component that is mounted again finds its connection
const page = globalThis.document; // a worker has none, and is never hidden
const streams = new Map(); // of this page, by their keys

// share gives the events of one connection to all listeners of this page that ask for the same key, and to every tab of
// this origin that asks for the same name. What it takes and calls, and how: docs/browser.md#inside.
export function share(listener, { key, ...options }) {
  const stream = streams.get(key) ?? createStream({ ...options, onend: () => streams.get(key) === stream && streams.delete(key) });
  streams.set(key, stream);
  stream.enter(listener, options.renew);
  return stream;
}

// createStream returns the stream of this page. Its lastId is undefined while messages before it may be missing.
function createStream({ name, lastId, connect, renew, onend }) {
  const listeners = new Set();
  let ending; // the timer after which a stream without listeners ends
  let state = { readyState: CONNECTING, live: false, failures: 0 };
  let its = state; // the leader's
  let alone = !name;
  let lockName; // a digest: every script of the origin can read the names of locks, and there may be a token in this one
  let request; // for the lock; undefined while this tab is away
  let release; // gives the lock up
  let channel;
  let connection; // while this tab leads
  let term = 0; // grows with each leader, so that a former one that does not know yet is not heard
  let asked = 0; // when the leader was asked for a sign of life, if it has not answered yet
  const life = new AbortController();
  const open = (options) => connect({ ...options, renew: renew && (() => renew()) });
  const reader = createReader({
    lastId,
    open,
    onevent(event) {
      if (connection) say('event', { event });
      listeners.forEach(({ hear }) => hear(event));
    },
    onjoin: heed,
    onend: lose,
  });
  const say = (kind, more) => !alone && request && channel.postMessage({ kind, term, ...more });
  const tell = () => connection && say('lead', { lastId: reader.knownId, state: { ...state, cause: undefined }, tick: reader.tick }); // not every cause can be sent

  async function begin() {
    try {
      if (!alone) await navigator.locks.query();
      if (!alone) new BroadcastChannel((lockName = await digest(name))).close();
    } catch {
      alone = true; // there are none here, or storage is blocked
    }
    come();
  }
  function come({ doubt } = {}) {
    if (request || life.signal.aborted || !(alone || lockName) || (alone && page?.hidden)) return;
    request = new AbortController();
    if (alone) return lead();
    channel = new BroadcastChannel(lockName);
    channel.onmessage = ({ data }) => request && hear(data);
    take();
    say('hello', { hurry: !page?.hidden, doubt });
  }
  function leave() {
    request?.abort();
    [request, asked] = [undefined, 0];
    stop();
    channel?.close();
    reader.close();
    if (!life.signal.aborted) change({ ...state, readyState: CONNECTING, live: false });
  }
  function stop() {
    connection = connection?.close();
    release?.();
  }
  // take waits for the lock, or steals it from the tab that has it.
  async function take({ steal = false } = {}) {
    request?.abort();
    const mine = (request = new AbortController());
    const hold = () => {
      if (request !== mine) return;
      lead();
      return new Promise((resolve) => (release = resolve));
    };
    await navigator.locks.request(lockName, steal ? { steal } : { signal: mine.signal }, hold).catch(() => {});
    if (request !== mine) return;
    stop(); // another tab has stolen the lock
    take();
    say('hello');
  }
  function lead() {
    follow(Math.max(term + 1, Date.now()) + Math.random()); // all tabs have the same clock
    its = state;
    reader.lead();
    connection = open({
      lastId: reader.lastId,
      wasOpen: state.wasOpen,
      onevent(event) {
        reader.hear(event);
        if (event.live) change({ ...state, live: true });
      },
      onopen() {
        reader.reopen();
        change({ readyState: OPEN, live: state.live, failures: 0 });
      },
      onlost: lose,
    });
    tell();
  }
  function lose({ final, ...lost }) {
    change({ ...lost, readyState: final ? CLOSED : CONNECTING, live: false, failures: state.failures + 1 });
  }
  // follow begins the term of a leader, this tab or another one.
  function follow(next) {
    stop(); // if this tab led, the other one has stolen the lock
    [term, asked] = [next, 0];
    reader.lose();
  }
  function hear({ kind, hurry, doubt, ...said }) {
    if (kind === 'hello') {
      if (hurry) connection?.check({ doubt });
      return tell();
    }
    if (kind === 'lead' && said.term > term) follow(said.term);
    if (said.term !== term) return;
    asked = 0;
    if (kind === 'event') return reader.hear(said.event);
    its = said.state;
    heed(); // first: open comes before what the stream brings
    reader.meet(said.lastId, its, said.tick);
    heed();
  }
  // heed adopts the leader's state. A tab that does not follow has not caught up, and does not end with the leader's.
  function heed() {
    if (reader.following || its.readyState !== CLOSED) change({ ...its, live: its.live && reader.following });
  }
  function change(to) {
    if (['readyState', 'live', 'failures'].every((key) => to[key] === state[key])) return;
    state = { ...to, wasOpen: state.wasOpen || to.readyState === OPEN };
    tell();
    if (state.readyState === CLOSED) close();
    listeners.forEach((listener) => listener.tell());
  }
  // check makes sure that there is a leader. With hurry, the leader connects at once; with doubt, it also replaces a
  // connection that is silent.
  function check({ hurry, doubt } = {}) {
    if (connection) return void (hurry && connection.check({ doubt }));
    const dead = asked && Date.now() - asked > answerTimeout;
    if (!request || (asked && !dead && !hurry)) return;
    asked = dead ? 0 : asked || Date.now();
    if (dead) take({ steal: true });
    else say('hello', { hurry, doubt });
  }
  function close() {
    life.abort();
    clearInterval(checking);
    leave();
    onend();
  }
  const now = { hurry: true, doubt: true };
  const look = () => (page.hidden ? alone && leave() : alone ? come() : check(now));
  const on = (target, type, listener) => target?.addEventListener?.(type, listener, { signal: life.signal });
  on(globalThis, 'pagehide', leave);
  on(globalThis, 'pageshow', () => come(now));
  on(globalThis, 'online', () => check(now));
  on(page, 'freeze', leave);
  on(page, 'resume', () => come(now));
  on(page, 'visibilitychange', look);
  const checking = setInterval(() => page?.hidden || check(), askInterval);
  begin();
  return {
    open,
    get state() { return state; },
    get lastId() { return reader.knownId; },
    get tick() { return reader.tick; },
    check: () => check(now),
    enter(listener, latestRenew) {
      clearTimeout(ending);
      listeners.add(listener);
      renew = latestRenew;
    },
    leave: (listener) => listeners.delete(listener) && listeners.size === 0 && (ending = setTimeout(close, linger)),
  };
}
const digest = async (text) => btoa(String.fromCharCode(...new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)))));
