import { createReader } from './reader.js';

const [CONNECTING, OPEN, CLOSED] = [0, 1, 2];
const askInterval = 5_000; // ms
const answerTimeout = 8_000;
const page = globalThis.document; // a worker has none, and is never hidden

// share gives the events of one connection to every tab of this origin that asks for the same name. A browser
// has six connections for a server, and a stream takes one for good.
//
// The tab that holds the lock leads: it opens the connection and passes everything on over a BroadcastChannel. When it
// closes, crashes or is frozen, the lock goes to the next tab, which resumes after the last message that it has itself.
// A tab that misses something fetches it, see reader.js.
//
// Without a name, or without locks (a page over plain HTTP from another host), each tab that can be seen has a
// connection of its own, and gives it up while it is hidden.
//
// open(options) opens a connection, see connection.js. onevent(event) gets each event once, in order, and positions.
// onstate({ readyState, live, failures, status, message, cause, since }) is called when one of the first three changes.
export function share({ name, lastId, open, onevent, onstate }) {
  let state = { readyState: CONNECTING, live: false, failures: 0 };
  let its = state; // the leader's
  let wasOpen = false;
  let alone = !name;
  let lockName; // a digest: every script of the origin can read the names of locks, and there may be a token in this one
  let request; // for the lock; undefined while this tab is away
  let release; // gives the lock up
  let channel;
  let connection; // while this tab leads
  let leader; // a random number, another one each time that a tab begins to lead
  let term = 0; // grows with each leader, so that a former one that does not know yet is not heard
  let asked = 0; // when the leader was asked for a sign of life, if it has not answered yet
  let sparse = false; // messages before the reader's last one may be missing
  const life = new AbortController();

  const reader = createReader({
    lastId,
    open,
    onevent(event) {
      if (connection) say('event', { event });
      sparse = event.sparse;
      onevent(event);
    },
    onjoin() {
      sparse = false;
      heed();
    },
    onend: (lost) => change({ ...lost, readyState: CLOSED, live: false, failures: state.failures + 1 }),
  });

  async function begin() {
    try {
      if (!alone) await navigator.locks.query();
      if (!alone) lockName = await digest(name);
      if (!alone) new BroadcastChannel(lockName).close();
    } catch {
      alone = true; // there are none here, or storage is blocked
    }
    enter();
  }

  function enter({ doubt } = {}) {
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
    request = undefined;
    stop();
    channel?.close();
    reader.close();
    asked = 0;
    if (!life.signal.aborted) change({ ...state, readyState: CONNECTING, live: false });
  }

  function stop() {
    connection?.close();
    connection = undefined;
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
    follow({ leader: Math.random(), term: Math.max(term + 1, Date.now()) }); // all tabs have the same clock
    its = state;
    reader.lead();
    connection = open({
      lastId: reader.lastId,
      wasOpen,
      onevent(event) {
        reader.hear(event);
        if (event.live && !state.live) change({ ...state, live: true });
      },
      onopen() {
        reader.reopen();
        change({ readyState: OPEN, live: state.live, failures: 0 });
      },
      onlost: ({ final, ...lost }) => change({ ...lost, readyState: final ? CLOSED : CONNECTING, live: false, failures: state.failures + 1 }),
    });
    tell();
  }

  // follow begins the term of a leader, this tab or another one.
  function follow(next) {
    stop(); // if this tab led, the other one has stolen the lock
    ({ leader, term } = next);
    asked = 0;
    reader.lose();
  }

  function say(kind, more) {
    if (!alone && request) channel.postMessage({ kind, leader, term, ...more });
  }

  const known = () => (sparse ? undefined : reader.lastId);

  function tell() {
    const { cause, ...rest } = state; // not every error can be sent
    say('lead', { lastId: known(), state: rest, tick: reader.tick });
  }

  function hear({ kind, hurry, doubt, ...said }) {
    if (kind === 'hello') {
      if (hurry) connection?.check({ doubt });
      return void (connection && tell());
    }
    if (kind === 'lead' && said.leader !== leader && said.term >= term) follow(said);
    if (said.leader !== leader) return;
    asked = 0;
    if (kind === 'event') return reader.hear(said.event);
    its = said.state;
    heed(); // first, as open comes before what the stream brings
    reader.meet(said.lastId, { isOpen: its.readyState === OPEN, live: its.live, tick: said.tick });
    heed();
  }

  // heed adopts the leader's state. A tab that does not follow has not caught up, and does not end with the leader's.
  function heed() {
    if (reader.following || its.readyState !== CLOSED) change({ ...its, live: its.live && reader.following });
  }

  function change(to) {
    if (['readyState', 'live', 'failures'].every((key) => to[key] === state[key])) return;
    state = to;
    wasOpen ||= state.readyState === OPEN;
    if (connection) tell();
    if (state.readyState === CLOSED) close();
    onstate(state);
  }

  // check makes sure that there is a leader. With hurry, the leader connects at once; with doubt, it also replaces a
  // connection that is silent.
  function check({ hurry, doubt } = {}) {
    if (connection) return void (hurry && connection.check({ doubt }));
    if (!request || (asked && !hurry && Date.now() - asked <= answerTimeout)) return;
    const silent = asked && Date.now() - asked > answerTimeout;
    asked = silent ? 0 : asked || Date.now();
    if (silent) take({ steal: true });
    else say('hello', { hurry, doubt });
  }

  function close() {
    life.abort();
    clearInterval(checking);
    leave();
  }

  const on = (target, type, listener) => target?.addEventListener?.(type, listener, { signal: life.signal });
  const now = { hurry: true, doubt: true };
  on(globalThis, 'pagehide', leave);
  on(globalThis, 'pageshow', () => enter(now));
  on(globalThis, 'online', () => check(now));
  on(page, 'freeze', leave);
  on(page, 'resume', () => enter(now));
  on(page, 'visibilitychange', () => {
    if (alone && page.hidden) leave();
    else if (alone) enter();
    else if (!page.hidden) check(now);
  });
  const checking = setInterval(() => page?.hidden || check(), askInterval);
  begin();
  return { lastId: known, tick: () => reader.tick, check: () => check(now), close };
}

const digest = async (text) => btoa(String.fromCharCode(...new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)))));
