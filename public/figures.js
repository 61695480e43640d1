// The page at /status: its figures as the server sends them, each with the id of its element.

import { showStatus } from './status.js';

const silence = 10_000; // ms; figures come every second

let eventSource;
let timer;
let lost; // since when

function connect() {
  disconnect();
  timer = setTimeout(retry, silence);
  eventSource = new EventSource('/status/sse');
  eventSource.onmessage = (event) => {
    clearTimeout(timer);
    timer = setTimeout(retry, silence);
    lost = undefined;
    showStatus({ name: 'live' });
    show(JSON.parse(event.data));
  };
  eventSource.onerror = retry;
}

function disconnect() {
  clearTimeout(timer);
  eventSource?.close();
}

function retry() {
  disconnect();
  lost ??= Date.now();
  showStatus({ name: 'reconnecting', since: lost });
  timer = setTimeout(connect, 2_000 + Math.random() * 3_000); // not everybody in the same instant
}

function show(figures) {
  for (const [name, text] of Object.entries(figures)) {
    const element = document.getElementById(name);
    if (name === 'chart') element?.setAttribute('d', text);
    else if (element && element.textContent !== text) element.textContent = text; // what is selected stays so
  }
}

// A page that nobody sees needs no figures.
function look() {
  if (document.hidden) disconnect();
  else connect();
}

showStatus({ name: 'connecting' });
document.addEventListener('visibilitychange', look);
addEventListener('online', look);
look();
