const status = document.getElementById('status');

// showStatus says how the connection is: in words, as not everybody sees colours, or the page.
//
//   name    connecting, live or reconnecting
//   since   when the connection was lost
//   shared  whether another tab has it
export function showStatus({ name, since, shared }) {
  const words = { connecting: 'Connecting', live: 'Live', reconnecting: 'Reconnecting since ' };
  const parts = [words[name]];
  if (name === 'reconnecting') {
    const time = document.createElement('time');
    time.dateTime = new Date(since).toISOString();
    time.textContent = new Date(since).toLocaleTimeString('en');
    parts.push(time);
  }
  if (name === 'live' && shared) parts.push(', through another tab');

  const text = parts.map((part) => part.textContent ?? part).join('');
  if (text === status.textContent) return; // or it would be announced again
  status.dataset.state = name === 'live' && shared ? 'shared' : name;
  status.replaceChildren(...parts);
}
