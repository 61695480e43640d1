const words = { connecting: 'Connecting', loading: 'Loading', live: 'Live', lost: 'Connection lost', none: 'No connection', ended: 'The stream has ended', refused: 'The server refuses this stream' };

// showConnection shows the state of an EventSource's connection, in words: not everybody sees colours, or the page.
export function showConnection(eventSource) {
  const connection = document.getElementById('connection');
  connection.replaceChildren();
  const text = append(connection, 'span', { role: 'status', tabindex: '-1' });
  const ago = append(connection, 'span'); // not announced: it changes every second
  const retry = append(connection, 'button', { type: 'button', hidden: '' });
  retry.textContent = 'Try now';
  retry.onclick = () => eventSource.reconnect();

  let state;
  let lostAt; // undefined until there is a connection
  let timer;

  function show(to, reason = words[to]) {
    if (text.textContent !== reason) text.textContent = reason; // otherwise screen readers would announce it again
    connection.dataset.state = state = to;
    const waiting = to === 'lost' || to === 'none';
    if (!waiting && document.activeElement === retry) text.focus(); // which must not get lost with the button
    retry.hidden = !waiting || !eventSource.reconnect;
    clearInterval(timer);
    if (waiting) timer = setInterval(count, 1_000);
    count();
  }

  function count() {
    ago.textContent = state === 'lost' ? since(Date.now() - lostAt) : '';
  }

  const showOpen = () => {
    if (eventSource.readyState !== eventSource.OPEN) return;
    lostAt = Infinity;
    show(eventSource.live === false ? 'loading' : 'live'); // the browser's own EventSource does not know
  };
  eventSource.addEventListener('open', showOpen);
  eventSource.addEventListener('statechange', showOpen);
  eventSource.addEventListener('error', ({ status, message }) => {
    const wasOpen = lostAt === Infinity;
    if (lostAt) lostAt = Math.min(lostAt, eventSource.lostAt ?? Date.now());
    if (eventSource.readyState !== eventSource.CLOSED && wasOpen) show('connecting', 'Reconnecting'); // the next attempt tells whether its topics have ended
    else if (eventSource.readyState !== eventSource.CLOSED) show(lostAt ? 'lost' : 'none');
    else if (status === 204 || (!status && lostAt)) show('ended');
    else show('refused', message);
  });
  show('connecting');
}

function append(parent, name, attributes = {}) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

function since(ms) {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 60) return ` ${seconds} s ago`;
  return seconds < 3_600 ? ` ${Math.floor(seconds / 60)} min ago` : ` ${Math.floor(seconds / 3_600)} h ago`;
}
