// The page at /status. The server sends the figures, each by the id of the element that shows it.

import { SharedEventSource } from './lib/shared-event-source.js';
import { showConnection } from './connection.js';

let eventSource;

function open() {
  eventSource = new SharedEventSource('status/sse');
  eventSource.onmessage = (event) => show(JSON.parse(event.data));
  showConnection(eventSource);
}

function show({ busiest, ...figures }) {
  for (const [name, text] of Object.entries(figures)) {
    const element = document.getElementById(name);
    if (name === 'chart') element?.setAttribute('d', text);
    else if (element && element.textContent !== String(text)) element.textContent = text; // replacing equal text would drop the reader's selection
  }
  const rows = (busiest ?? []).map(({ topic, subscribers }) => {
    const row = document.createElement('tr');
    row.insertCell().textContent = topic || 'the default topic';
    row.insertCell().textContent = subscribers;
    return row;
  });
  const table = document.getElementById('busiest');
  table.replaceChildren(...rows);
  table.parentElement.hidden = rows.length === 0;
}

// A page that nobody sees needs no figures.
document.addEventListener('visibilitychange', () => {
  if (document.hidden) eventSource?.close();
  else if (eventSource?.readyState !== SharedEventSource.OPEN) open();
});
if (!document.hidden) open();
