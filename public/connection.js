const words = { connecting: 'Connecting', live: 'Live', lost: 'Connection lost', none: 'No connection', ended: 'The stream has ended', refused: 'Not allowed' };

// showConnection shows the state of an EventSource's connection, in words: not everybody sees colours, or the page.
export function showConnection(eventSource) {
  const connection = document.getElementById('connection');
  connection.replaceChildren();
  const text = append(connection, 'span', { role: 'status' });
  const ago = append(connection, 'span'); // not announced: it changes every second
  const retry = append(connection, 'button', { type: 'button', hidden: '' });
  retry.textContent = 'Try now';
  retry.onclick = () => eventSource.reconnect();

  let state;
  let lostAt; // undefined until there is a connection
  let timer;

  function show(to) {
    if (to !== state) text.textContent = words[to]; // otherwise screen readers would announce it again
    connection.dataset.state = state = to;
    const waiting = to === 'lost' || to === 'none';
    retry.hidden = !waiting || !eventSource.reconnect;
    clearInterval(timer);
    if (waiting) timer = setInterval(count, 1_000);
    count();
  }

  function count() {
    ago.textContent = state === 'lost' ? since(Date.now() - lostAt) : '';
  }

  eventSource.addEventListener('open', () => {
    lostAt = Infinity;
    show('live');
  });
  eventSource.addEventListener('error', ({ status }) => {
    if (lostAt) lostAt = Math.min(lostAt, eventSource.lostAt ?? Date.now());
    if (eventSource.readyState === eventSource.CLOSED) show(status === 401 || status === 403 ? 'refused' : 'ended');
    else show(lostAt ? 'lost' : 'none');
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
