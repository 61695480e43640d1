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
export function openStream({ inbox, onevent, onlive, onlost }) {
  let eventSource;
  let open; // whether eventSource is
  let failures = 0;
  let timer;
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
        tick = heard;
        onevent({ type: 'tick', data: event.data, first });
        first = false;
      } else {
        id = event.lastEventId;
        onevent({ type: 'message', data: event.data, id });
      }
    };
    eventSource.addEventListener('gap', (event) => {
      onevent({ type: 'gap', data: event.data, after });
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
    const delay = Math.min(longestDelay, firstDelay * 2 ** failures++);
    timer = setTimeout(connect, delay * (0.5 + Math.random() / 2)); // not everybody in the same instant
    onlost();
  }

  // A connection can die without a word: the machine slept, the network changed, a proxy forgot it.
  function check() {
    const now = Date.now();
    const slept = now - checked > longestSleep;
    checked = now;
    if (slept) connect();
    else if (eventSource.readyState === EventSource.CONNECTING && now - heard > openTimeout) retry();
    else if (open && pause && now - heard > Math.max(openTimeout, 3 * pause)) connect();
  }

  // hurry tries at once instead of waiting for the next try.
  function hurry() {
    if (!open && eventSource.readyState === EventSource.CLOSED) connect();
  }

  const checking = setInterval(check, 5_000);
  addEventListener('online', connect);
  connect();

  return {
    hurry,
    close() {
      clearInterval(checking);
      removeEventListener('online', connect);
      disconnect();
    },
  };
}
