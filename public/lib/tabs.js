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
// A tab follows the leader once the leader's stream has come by the tab's own last message: what comes after that
// leaves no hole. Each stream says first where it begins (its position), so most tabs can follow a new leader at once,
// and skip what they have. A tab that was away, or asks for older messages, finds that the stream has begun too late
// for it. It steals the lock, resumes where it stopped, and the others follow it.
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
  let state = { readyState: CONNECTING, failures: 0 };
  let alone = !navigator.locks;
  let request; // for the lock; undefined while this tab is away
  let release; // gives the lock up
  let channel;
  let connection; // while this tab leads

  let leader; // a random number, another one each time that a tab begins to lead
  let term = 0; // grows with each leader, so that a former one that does not know yet is not heard
  let following = false;
  let takeover; // the timer after which this tab steals the lock to get what it needs
  let takeovers = 0; // how often it has done so in vain
  let asked = 0; // when the leader was asked for a sign of life, if it has not answered yet

  let tick; // the latest event without an id
  let handover = false; // a new leader's stream begins with the latest tick again

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
    say('hello', { hurry: !document.hidden });
  }

  function leave() {
    request?.abort();
    request = undefined;
    stop();
    channel?.close();
    following = false;
    asked = 0;
    if (!life.signal.aborted) change({ ...state, readyState: CONNECTING });
  }

  function stop() {
    connection?.close();
    connection = undefined;
    release?.();
    cancelTakeover();
  }

  function cancelTakeover() {
    clearTimeout(takeover);
    takeover = undefined;
  }

  // take waits for the lock, or steals it from the tab that has it.
  function take({ steal = false } = {}) {
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
    begin({ leader: Math.random(), term: Math.max(term + 1, Date.now()) }); // all tabs have the same clock
    following = true;
    connection = open({
      lastId,
      onevent(event) {
        say('event', { event });
        accept(event);
      },
      onopen: () => change({ readyState: OPEN, failures: 0 }),
      onlost: ({ final, ...lost }) => change({ readyState: final ? CLOSED : CONNECTING, failures: state.failures + 1, ...lost }),
    });
    say('lead', { lastId, state, tick });
  }

  // begin begins the term of a leader, this tab or another one.
  function begin(next) {
    stop(); // if this tab led, the other one has stolen the lock
    ({ leader, term } = next);
    handover = true;
    asked = 0;
    if (following) takeovers ||= 1; // so give the new stream time to come by
    following = false;
  }

  function say(kind, more) {
    if (!alone && request) channel.postMessage({ kind, leader, term, ...more });
  }

  function hear({ kind, ...said }) {
    if (kind === 'hello') {
      if (!connection) return;
      if (said.hurry) connection.check();
      return say('lead', { lastId, state, tick });
    }
    if (kind === 'lead' && said.leader !== leader && said.term >= term) begin(said);
    if (said.leader !== leader) return;
    asked = 0;
    if (kind === 'lead') {
      follow(said.lastId, said.state.readyState === OPEN);
      if (following) lastId ||= said.lastId;
      heed(said.state);
      if (following && said.tick && !tick) accept(said.tick);
    } else if (kind === 'state') {
      heed(said.state);
    } else {
      if (said.event.id) follow(said.event.id, true);
      heed({ readyState: OPEN, failures: 0 });
      if (following) accept(said.event);
    }
  }

  // follow is told how far the leader's stream is. A stream that is not open yet may begin early enough for this tab.
  function follow(id, isOpen) {
    if (following) return;
    following = id === lastId || isSeen(id, lastId) || (isOpen && !lastId);
    if (following) {
      takeovers = 0;
      cancelTakeover();
    } else if (isOpen) {
      // Other tabs may need the lock too. So wait for a moment, and for longer each time that it was in vain.
      takeover ??= setTimeout(() => {
        takeovers++;
        take({ steal: true });
      }, 500 * (2 ** Math.min(takeovers, 6) - 0.95) * (1 + Math.random()));
    }
  }

  // heed adopts the leader's state. A tab that does not follow has no stream yet, and does not end with the leader's.
  function heed(its) {
    if (following) change(its);
    else if (its.readyState !== CLOSED) change({ ...its, readyState: CONNECTING });
  }

  function accept(event) {
    if (event.type === 'position') { // it only says where the stream begins
      if (!lastId || lastId === 'earliest') lastId = event.id; // a tab that has no message yet resumes there
      return;
    }
    if (event.id) {
      if (isSeen(event.id, lastId)) return;
      lastId = event.id;
      takeovers = 0;
    } else {
      const repeated = handover && event.data === tick?.data;
      tick = event;
      handover = false;
      if (repeated) return;
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
