const name = 'sse'; // of the lock and of the channel
const checkInterval = 5_000; // ms
const answerTimeout = 8_000;
const catchUpTime = 2_000;

// shareStream has one stream for all tabs of this browser, which would otherwise be given six
// connections and no more. The tab that holds the lock leads: it opens the stream and passes
// everything on. When it closes, crashes or is frozen, the lock goes to the next tab, which goes on
// after the last message that it saw itself. What it then gets twice, the inbox knows by its id.
//
// For a page that came over plain HTTP from another host, browsers have no locks: there each tab has
// a stream of its own.
export function shareStream({ open, inbox, onstate }) {
  let state = { name: 'connecting' };
  let stream; // while this tab leads
  let live; // when it was first connected
  let release; // gives up the lock

  const me = crypto.randomUUID?.();
  let leader; // the tab whose ticks count
  let channel;
  let request; // for the lock; undefined while this tab is frozen or on its way out
  let retry;
  let losses = 0; // of the lock, in a row
  let asked = 0; // when the leader was asked for a sign of life that has not come

  // A new tab asks the leader for what it has. A tab that comes back has missed what was sent since,
  // and must lead once to get it.
  let place = 'new'; // or 'back', or 'along' for a tab that has all that was passed on

  function enter() {
    if (request) return;
    try {
      channel = new BroadcastChannel(name);
      channel.onmessage = ({ data }) => hear(data);
    } catch {} // where storage is blocked; so are the locks
    take({ steal: place === 'back' });
    if (place === 'new') say('hello');
  }

  function leave() {
    if (!request) return;
    clearTimeout(retry);
    request.abort();
    request = undefined;
    stop();
    channel?.close();
    place = place === 'new' ? 'new' : 'back';
  }

  // take waits for the lock, or takes it from the tab that has it.
  function take({ steal }) {
    clearTimeout(retry);
    request?.abort();
    const mine = (request = new AbortController());
    const lock = async () => {
      if (request !== mine) return;
      lead();
      await new Promise((resolve) => (release = resolve));
    };
    // Without locks every tab has a stream, and what another one passed on would come twice.
    const alone = () => {
      channel?.close();
      channel = undefined;
      lock();
    };
    if (!navigator.locks || !channel) return void alone();
    navigator.locks.request(name, steal ? { steal } : { signal: mine.signal }, lock).catch((error) => {
      if (request !== mine) return;
      if (error.name === 'AbortError') lost();
      else alone(); // the browser grants no locks here
    });
  }

  function lead() {
    leader = me;
    asked = live = 0;
    if (place === 'new') place = 'along';
    stream = open({
      inbox,
      onevent(event) {
        inbox.receive(event);
        say('event', { event });
      },
      onlive() {
        live ||= Date.now();
        change({ name: 'live' });
      },
      onlost() {
        if (state.name !== 'reconnecting') change({ name: 'reconnecting', since: Date.now() });
      },
    });
    say('lead');
    change(state);
  }

  // lost is when another tab has taken the lock from this one.
  function lost() {
    if (live && Date.now() - live > catchUpTime) place = 'along';
    stop();
    change(state);
    if (place === 'along') {
      losses = 0;
      take({ steal: false });
    } else {
      // Tabs that came back together each need the lock for a while: the more of them, the less often each tries.
      const wait = 1000 * 2 ** Math.min(losses++, 6);
      retry = setTimeout(take, wait * (1 + 2 * Math.random()), { steal: true });
    }
  }

  function stop() {
    stream?.close();
    stream = undefined;
    release?.();
  }

  function change(to) {
    state = to;
    onstate({ ...state, shared: !stream });
    if (stream) say('state', { state });
  }

  function say(kind, more) {
    channel?.postMessage({ kind, from: me, ...more });
  }

  function hear({ kind, from, event, state: itsState, copy, hurry }) {
    if (kind === 'lead') leader = from;
    if (from === leader) asked = 0;
    switch (kind) {
      case 'hello':
        if (stream) say('welcome', { state, copy: inbox.copy() });
        break;
      case 'ask':
        stream?.check(hurry);
        if (stream) say('state', { state });
        break;
      case 'lead':
        if (place === 'new') say('hello');
        break;
      case 'welcome':
        if (place !== 'new') break;
        place = 'along';
        leader = from;
        asked = 0;
        inbox.start(copy);
        change(itsState);
        break;
      case 'state':
        if (from === leader && place === 'along') change(itsState);
        break;
      case 'event':
        // A message counts from any tab. Of ticks, which have no id, a former leader may have sent one again.
        if (place === 'along' && (from === leader || event.type === 'message')) inbox.receive(event);
        break;
    }
  }

  // check takes over from a leader that shows no sign of life.
  function check({ hurry = false } = {}) {
    if (!request || !channel || stream || document.hidden) return;
    if (asked && Date.now() - asked > answerTimeout) {
      take({ steal: true });
    } else if (!asked || hurry) {
      asked ||= Date.now();
      say('ask', { hurry });
    }
  }

  addEventListener('pagehide', leave);
  addEventListener('pageshow', enter);
  document.addEventListener('freeze', leave);
  document.addEventListener('resume', enter);
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) return;
    stream?.check(true);
    check({ hurry: true });
  });
  setInterval(check, checkInterval);
  enter();
}
