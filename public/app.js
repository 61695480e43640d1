import { SharedEventSource as EventSource } from './lib/shared-event-source.js';
import { showConnection } from './connection.js';
import { createLines } from './lines.js';

// The tutorial's page. It works with the browser's own EventSource as well: delete the first line.

const sseData = document.getElementById('sse-data');
const lines = createLines(sseData);

const eventSource = new EventSource(lines.resume('sse' + location.search));
showConnection(eventSource);
lines.keep(eventSource);

eventSource.onmessage = (event) => {
  const data = JSON.parse(event.data);
  lines.add(data, event);
};

eventSource.addEventListener('*', eventSource.onmessage); // events with a name, which the browser's own EventSource leaves out

eventSource.addEventListener('gap', (event) => {
  lines.addGap(event.lastEventId);
});

eventSource.onerror = (error) => {
  console.info('SSE Error:', error.message ?? error.status ?? 'the connection was lost'); // the connection comes back by itself
};
