const words = { connecting: 'Connecting', loading: 'Loading', live: 'Live', lost: 'Connection lost', none: 'No connection', ended: 'The stream has ended', refused: 'The server refuses this stream' };

// showConnection shows the state of an EventSource's connection, in words: not everybody sees colours, or the page.
export function showConnection(eventSource) {
  const connection = document.getElementById('connection');
  const [text, ago, retry] = ['span', 'span', 'button'].map((name) => document.createElement(name)); // ago changes every second, and is not announced
  Object.assign(text, { role: 'status', tabIndex: -1 });
  Object.assign(retry, { type: 'button', textContent: 'Try now', onclick: () => eventSource.reconnect() });
  connection.replaceChildren(text, ago, retry);

  let lostAt; // undefined until there is a connection
  let timer;

  function show(state, reason = words[state]) {
    if (text.textContent !== reason) text.textContent = reason; // otherwise screen readers would announce it again
    connection.dataset.state = state;
    const waiting = state === 'lost' || state === 'none';
    if (!waiting && document.activeElement === retry) text.focus(); // which must not get lost with the button
    retry.hidden = !waiting || !eventSource.reconnect;
    const count = () => (ago.textContent = state === 'lost' ? since(Date.now() - lostAt) : '');
    clearInterval(timer);
    if (waiting) timer = setInterval(count, 1_000);
    count();
  }

  const showOpen = () => {
    if (eventSource.readyState !== eventSource.OPEN) return;
    lostAt = Infinity;
    show(eventSource.live === false ? 'loading' : 'live'); // the browser's own EventSource does not know
  };
  eventSource.addEventListener('open', showOpen);
  eventSource.addEventListener('statechange', showOpen);
  eventSource.addEventListener('error', ({ status, message }) => {
    const isClosed = eventSource.readyState === eventSource.CLOSED;
    const wasOpen = lostAt === Infinity;
    if (lostAt) lostAt = Math.min(lostAt, eventSource.lostAt ?? Date.now());
    if (isClosed && (status === 204 || (!status && lostAt))) show('ended');
    else if (isClosed) show('refused', message);
    else if (wasOpen) show('connecting', 'Reconnecting'); // the next attempt tells whether its topics have ended
    else show(lostAt ? 'lost' : 'none');
  });
  show('connecting');
}

function since(ms) {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 60) return ` ${seconds} s ago`;
  return seconds < 3_600 ? ` ${Math.floor(seconds / 60)} min ago` : ` ${Math.floor(seconds / 3_600)} h ago`;
}
