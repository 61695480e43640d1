const kept = 100; // lines; the page may stay open for days
const sseData = document.getElementById('sse-data');

function show(message) {
  const line = document.createElement('p');
  line.textContent = message; // as text: a message is never markup
  sseData.append(line);
  if (sseData.childElementCount > kept) sseData.firstElementChild.remove();
}

function connect() {
  const eventSource = new EventSource('/sse');
  eventSource.onmessage = (event) => {
    const data = JSON.parse(event.data);
    show(data.message);
  };
  eventSource.onerror = () => {
    // A lost connection the browser opens again by itself. Only an answer that is no stream, from a
    // proxy whose server restarts, say, makes it give up.
    if (eventSource.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
  };
}

connect();
