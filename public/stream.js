// Events with a name of their own (POST /sse?event=NAME) that the page shows as well. It sees no others.
const named = [];

const firstDelay = 2_000; // ms; doubled at each failure in a row
const longestDelay = 15_000;
const openTimeout = 15_000;
const longestSleep = 120_000; // a tab in the background has its timers run once a minute

// openStream keeps an EventSource open until it is closed, whatever happens to the network, the
// server or the machine. inbox says after which message to go on.
//
//   onevent(event)  { id, type, data, first, after }; a tick has no id
//   onlive()        connected
//   onlost()        the connection, or a try to get one, failed; the next try follows by itself
//
// It returns { check, close }. check(true) tries at once when there is no connection.
export function openStream({ inbox, onevent, onlive, onlost }) {
  let eventSource;
  let open; // whether eventSource is
  let failures = 0;
  let timer;
  let due; // when the next try is
  let heard; // when the last event came
  let tick; // when the last tick came
  let pause; // between the last two ticks
  let checked = Date.now();

  function connect() {
    disconnect();
    const after = inbox.lastId();
    let id = after;
    let first = true;
    open = false;
    heard = Date.now();
    tick = pause = 0;

    eventSource = new EventSource('/sse' + (after && '?lastEventId=' + encodeURIComponent(after)));
    eventSource.onopen = () => {
      open = true;
      failures = 0;
      onlive();
    };
    eventSource.onmessage = (event) => {
      heard = Date.now();
      // An event without an id of its own, a tick, reports that of the message before.
      if (event.lastEventId === id || !event.lastEventId) {
        if (tick) pause = heard - tick;
        if (!first) tick = heard; // the first one comes at once, not in its time
        onevent({ type: 'tick', data: event.data, first });
        first = false;
      } else {
        id = event.lastEventId;
        onevent({ type: 'message', data: event.data, id });
      }
    };
    for (const name of named) eventSource.addEventListener(name, eventSource.onmessage);
    eventSource.addEventListener('position', (event) => {
      id = event.lastEventId;
      onevent({ type: 'position', id });
    });
    eventSource.addEventListener('gap', (event) => {
      id = event.lastEventId;
      onevent({ type: 'gap', data: event.data, after, id });
    });
    eventSource.onerror = retry;
  }

  function disconnect() {
    clearTimeout(timer);
    eventSource?.close();
  }

  // retry is our own for every error. The browser would try again at a steady pace, but not after an
  // answer that is no stream, such as the 503 of a proxy whose server restarts.
  function retry() {
    disconnect();
    open = false;
    const longest = Math.min(longestDelay, firstDelay * 2 ** failures++);
    const delay = longest * (0.5 + Math.random() / 2); // not everybody in the same instant
    due = Date.now() + delay;
    timer = setTimeout(connect, delay);
    onlost();
  }

  // check looks after what no event tells. A connection can die without a word: the machine slept, the
  // network changed, a proxy forgot it. A timer may be late, in a tab in the background for minutes.
  // With hurry it does not wait for the next try.
  function check(hurry = false) {
    const now = Date.now();
    const slept = now - checked > longestSleep;
    checked = now;
    const waiting = eventSource.readyState === EventSource.CLOSED;
    const dead = open && pause && now - heard > Math.max(openTimeout, 3 * pause);
    if (slept || dead || (waiting && (hurry || now >= due))) connect();
    else if (!waiting && !open && now - heard > openTimeout) retry();
  }

  const checking = setInterval(check, 5_000);
  addEventListener('online', connect);
  connect();

  return {
    check,
    close() {
      clearInterval(checking);
      removeEventListener('online', connect);
      disconnect();
    },
  };
}
