const [CONNECTING, OPEN, CLOSED] = [0, 1, 2];
const askInterval = 5_000; // ms
const answerTimeout = 8_000;

// share gives the events of one connection to every tab of this origin that asks for the same name. A browser
// has six connections for a server, and a stream takes one for good.
//
// The tab that holds the lock leads: it opens the connection and passes everything on over a
// BroadcastChannel. When it closes, crashes or is frozen, the lock goes to the next tab, which resumes
// after the last message that it has itself. By the ids (EPOCH-NUMBER) a tab knows which messages it
// has already.
//
// A tab is in line if it has every message that the leader has, so that what the leader passes on leaves no hole.
// A tab that was away is not in line. It takes the lock from the leader, once, and resumes where it stopped.
//
// Without locks (a page over plain HTTP from another host) each tab that can be seen has a connection
// of its own, and gives it up while it is hidden.
//
//   open(handlers)   opens the connection, see connection.js
//   onevent(event)   each event once, in order
//   onstate(state)   { readyState, failures, status, since }
//
// It returns { lastId, check, close }.
export function share({ name, lastId, open, onevent, onstate }) {
  const me = Math.random();
  let state = { readyState: CONNECTING, failures: 0 };
  let alone = !navigator.locks;
  let request; // for the lock; undefined while this tab is away
  let release; // gives the lock up
  let channel;
  let connection; // while this tab leads

  let leader;
  let term = 0; // grows with each leader, so that a former one that does not know yet is not heard
  let inLine = false;
  let takeovers = 0; // how often in a row this tab took the lock to get in line
  let retake;
  let asked = 0; // when the leader was asked for a sign of life, if it has not answered yet

  let tick; // the latest event without an id
  let handover = false; // another tab leads now, and its connection begins with the latest tick again

  function enter() {
    if (request || (alone && document.hidden)) return;
    try {
      if (!alone) channel = new BroadcastChannel(name);
    } catch {
      alone = true; // storage is blocked, and so are locks
    }
    if (alone) {
      request = new AbortController();
      return lead();
    }
    channel.onmessage = ({ data }) => request && hear(data);
    take();
    say('hello');
  }

  function leave() {
    request?.abort();
    request = undefined;
    clearTimeout(retake);
    stop();
    channel?.close();
    inLine = false;
    asked = 0;
    if (!life.signal.aborted) change({ ...state, readyState: CONNECTING });
  }

  function stop() {
    connection?.close();
    connection = undefined;
    release?.();
  }

  // take waits for the lock, or steals it from the tab that has it.
  function take({ steal = false } = {}) {
    clearTimeout(retake);
    request?.abort();
    const mine = (request = new AbortController());
    const hold = () => {
      if (request !== mine) return;
      lead();
      return new Promise((resolve) => (release = resolve));
    };
    const options = steal ? { steal } : { signal: mine.signal };
    navigator.locks.request(name, options, hold).catch((error) => error).then((error) => {
      if (request !== mine) return;
      if (error && error.name !== 'AbortError') {
        leave();
        alone = true; // the browser grants no locks here
        return enter();
      }
      stop(); // another tab has stolen the lock
      take();
      say('hello');
    });
  }

  function lead() {
    handover = leader !== undefined && leader !== me;
    leader = me;
    term = Math.max(term + 1, Date.now()); // all tabs have the same clock
    inLine = true;
    asked = 0;
    connection = open({
      lastId,
      onevent(event) {
        if (event.type === 'position') return; // it only says where the stream begins
        say('event', { event });
        accept(event);
      },
      onid(id) {
        lastId ||= id; // a tab that has no message yet resumes there
        say('id', { id });
      },
      onopen: () => change({ readyState: OPEN, failures: 0 }),
      onlost: ({ final, ...lost }) => change({ readyState: final ? CLOSED : CONNECTING, failures: state.failures + 1, ...lost }),
    });
    say('lead', { lastId, state, tick });
  }

  function say(kind, more) {
    if (!alone && request) channel.postMessage({ kind, from: me, term, ...more });
  }

  function hear({ kind, from, ...said }) {
    if (kind === 'hello') {
      if (!connection) return;
      if (said.hurry) connection.check();
      say('lead', { lastId, state, tick });
    } else if (said.term > term || (said.term === term && !connection)) {
      if (kind === 'lead') follow(from, said);
      if (from !== leader) return;
      asked = 0;
      if (!inLine) return;
      if (kind === 'event') accept(said.event);
      if (kind === 'id') lastId ||= said.id;
      if (kind === 'state') change(said.state);
    }
  }

  function follow(from, said) {
    stop(); // if this tab led, the other one has stolen the lock
    handover ||= leader !== undefined && leader !== from;
    leader = from;
    term = said.term;
    lastId ||= said.lastId;
    inLine = said.lastId === lastId || isSeen(said.lastId, lastId);
    clearTimeout(retake);
    if (inLine) {
      takeovers = 0;
      change(said.state);
      if (said.tick && !tick) accept(said.tick);
    } else {
      // Tabs that came back together each need the lock for a while. The more there are, the less often each of them tries.
      retake = setTimeout(take, 500 * (2 ** Math.min(takeovers++, 6) - 1) * (1 + Math.random()), { steal: true });
    }
  }

  function accept(event) {
    if (event.id) {
      if (isSeen(event.id, lastId)) return;
      lastId = event.id;
    } else {
      const repeated = handover && event.data === tick?.data;
      tick = event;
      if (repeated) return;
      handover = false;
    }
    onevent(event);
  }

  function change(to) {
    if (to.readyState === state.readyState && to.failures === state.failures) return;
    state = to;
    if (connection) say('state', { state });
    if (state.readyState === CLOSED) close();
    onstate(state);
  }

  // check makes sure that there is a leader. With hurry, the leader checks its connection at once.
  function check({ hurry = false } = {}) {
    if (!request) return;
    if (connection) {
      if (hurry) connection.check();
    } else if (asked && Date.now() - asked > answerTimeout) {
      asked = 0;
      take({ steal: true });
    } else if (!asked || hurry) {
      asked ||= Date.now();
      say('hello', { hurry });
    }
  }

  const life = new AbortController();
  const on = (target, type, listener) => target.addEventListener(type, listener, { signal: life.signal });
  on(window, 'pagehide', leave);
  on(window, 'pageshow', enter);
  on(window, 'online', () => check({ hurry: true }));
  on(document, 'freeze', leave);
  on(document, 'resume', enter);
  on(document, 'visibilitychange', () => {
    if (alone) return document.hidden ? leave() : enter();
    if (!document.hidden) check({ hurry: true });
  });
  const checking = setInterval(() => document.hidden || check(), askInterval);

  function close() {
    life.abort();
    clearInterval(checking);
    leave();
  }

  enter();
  return { lastId: () => lastId, check: () => check({ hurry: true }), close };
}

// isSeen tells whether a tab whose last message has the id "last" already has the message with this id. An id of
// another epoch is never trusted.
function isSeen(id, last) {
  const [, epoch, number] = /^(.*)-(\d+)$/.exec(id) ?? [];
  const [, lastEpoch, lastNumber] = /^(.*)-(\d+)$/.exec(last) ?? [];
  return number !== undefined && epoch === lastEpoch && Number(number) <= Number(lastNumber);
}
