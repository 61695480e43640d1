const keptMessages = 100; // the page may stay open for days
const keptTicks = 5;
const storedLength = 1_000_000; // characters
const short = 40; // characters: up to here a message is set in large type
const long = 120; // characters: beyond that a message does not fit where the latest one stands
const clamped = 280; // characters: beyond that a line is cut off until its reader opens it
const announceInterval = 5_000; // ms
const gapText = 'Some messages were missed';

// createLines fills #sse-data with what the page shows: the latest message, the server's clock, and all
// messages, the newest last. An event that comes in moves nothing that somebody is reading.
export function createLines(sseData) {
  const latest = append(sseData, 'div', 'latest');
  const published = append(latest, 'p', 'published');
  const headline = append(latest, 'p', 'headline');
  headline.dir = 'auto';
  const clock = append(sseData, 'ul', 'ticks');
  const bar = append(sseData, 'div', 'bar');
  const pause = append(bar, 'button');
  const log = append(sseData, 'ol', 'messages');
  log.tabIndex = 0; // it scrolls
  log.setAttribute('aria-label', 'Messages');
  const announcement = append(sseData, 'p', 'announcement');
  announcement.setAttribute('role', 'status');
  for (let n = 0; n < keptTicks; n++) append(clock, 'li');

  const storage = `messages of ${location.pathname}${location.search}`;
  let lines = []; // messages, { data, at }, and gaps, { gap: true, at }
  let ticks = []; // the newest first
  let lastId;
  let begun = false; // a new id means a message; at the first event of the browser's own EventSource it does not
  let announced = 0; // when the last announcement was made
  let unannounced = []; // texts to announce
  let waiting; // lines, while the page is paused
  let atEnd = true; // the reader of the messages is at their end

  function follow() {
    if (atEnd) log.scrollTop = log.scrollHeight;
  }

  function look() {
    atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 8;
  }

  log.onscroll = look;
  new ResizeObserver(follow).observe(log);

  function show(line, { restored = false } = {}) {
    look();
    log.lastElementChild?.classList.remove('above');
    sseData.classList.add('has-lines');
    const text = line.gap ? undefined : textOf(line.data);
    log.append(row(line, text));
    lines.push(line);
    if (text) {
      headline.textContent = text;
      headline.classList.toggle('long', text.length > short);
      sseData.classList.add('has-message');
      published.replaceChildren('Latest message · ', time(line.at));
      if (text.length <= long) log.lastElementChild.classList.add('above'); // hides this one, so that the text is not shown twice
    }
    if (lines.length > keptMessages) {
      lines.shift();
      const { height } = log.firstElementChild.getBoundingClientRect();
      log.firstElementChild.remove();
      log.scrollTop -= height; // what somebody is reading stays where it is
    }
    follow();
    if (!restored) announce(text ?? (line.gap ? gapText : 'A message without words'));
    showTicks();
  }

  function showTicks() {
    const messages = sseData.classList.contains('has-message');
    if (!messages) headline.textContent = ticks[0] ?? '';
    const shown = messages ? ticks.slice(0, 1) : ticks.slice(1);
    [...clock.children].forEach((item, n) => (item.textContent = shown[n] ?? ''));
    sseData.classList.toggle('empty', ticks.length + lines.length === 0);
  }

  // announce is for screen readers. It waits between texts, so that they do not speak all the time.
  function announce(text) {
    if (unannounced.push(text) > 1) return;
    setTimeout(() => {
      const newest = unannounced.at(-1).slice(0, clamped);
      announcement.textContent = unannounced.length > 1 ? `${unannounced.length} messages. The latest: ${newest}` : newest;
      unannounced = [];
      announced = Date.now();
    }, Math.max(0, announced + announceInterval - Date.now()));
  }

  function receive(line) {
    if (!waiting) return show(line);
    waiting.push(line);
    if (waiting.length > keptMessages) waiting.shift();
    showPause();
  }

  function showPause() {
    pause.textContent = waiting ? `Resume${waiting.length ? ` (${waiting.length})` : ''}` : 'Pause';
  }

  pause.type = 'button';
  pause.onclick = () => {
    const missed = waiting;
    waiting = waiting ? undefined : [];
    missed?.forEach((line) => show(line));
    showPause();
  };
  showPause();
  showTicks();

  return {
    // resume brings back what this tab showed before it was reloaded, and returns the address to go on from there.
    resume(address) {
      const stored = restore(storage);
      stored.lines?.forEach((line) => show(line, { restored: true }));
      lastId = stored.lastId;
      if (!lastId) return address;
      const resumed = new URL(address, location.href);
      resumed.searchParams.set('lastEventId', lastId); // in place of the id that the page was opened with
      return resumed.href;
    },

    // keep stores what the tab shows when the page goes away, for resume.
    keep(eventSource) {
      begun = 'lastEventId' in eventSource;
      addEventListener('pagehide', () => {
        store(storage, lines.concat(waiting ?? []).slice(-keptMessages), eventSource.lastEventId ?? lastId);
      });
    },

    add(data, id) {
      // A tick has no id. The browser's own EventSource gives it the id of the event before, at first that of the stream's beginning.
      const isMessage = begun && id && id !== lastId;
      begun = true;
      lastId = id || lastId;
      if (isMessage) return receive({ data, at: Date.now() });
      if (waiting) return;
      ticks = [textOf(data) ?? JSON.stringify(data), ...ticks].slice(0, keptTicks);
      showTicks();
    },

    addGap(id) {
      lastId = id;
      // After a restart, nobody knows whether any message is missing. Say nothing in a tab that never had one.
      if (lines.length > 0) receive({ gap: true, at: Date.now() });
    },
  };
}

function restore(name) {
  try {
    return JSON.parse(sessionStorage.getItem(name)) ?? {};
  } catch {
    return {}; // storage is blocked
  }
}

function store(name, lines, lastId) {
  let text;
  while ((text = JSON.stringify({ lines, lastId })).length > storedLength) lines.shift();
  try {
    sessionStorage.setItem(name, text);
  } catch {} // blocked, or full
}

// textOf returns the text of a message, or undefined if it has none.
function textOf(data) {
  const text = typeof data === 'string' ? data : data?.message;
  return typeof text === 'string' && text.trim() ? text : undefined;
}

function row({ data, gap, at }, text) {
  const item = document.createElement('li');
  item.append(time(at));
  const body = append(item, text === undefined && !gap ? 'pre' : 'p');
  body.dir = 'auto';
  body.textContent = gap ? gapText : (text ?? JSON.stringify(data, null, 2)); // never markup
  if (gap) item.className = 'gap';
  if (body.textContent.length > clamped || body.textContent.split('\n').length > 6) {
    body.className = 'clamped';
    const open = append(item, 'button');
    open.type = 'button';
    open.textContent = 'Show all';
    open.setAttribute('aria-expanded', 'false');
    open.onclick = () => {
      const closed = body.classList.toggle('clamped');
      open.textContent = closed ? 'Show all' : 'Show less';
      open.setAttribute('aria-expanded', String(!closed));
    };
  }
  return item;
}

function time(at) {
  const element = document.createElement('time');
  const date = new Date(at);
  element.dateTime = date.toISOString();
  const today = date.toDateString() === new Date().toDateString();
  element.textContent = today ? date.toLocaleTimeString('en') : date.toLocaleString('en', { dateStyle: 'medium', timeStyle: 'short' });
  return element;
}

function append(parent, name, className) {
  const element = document.createElement(name);
  if (className) element.className = className;
  parent.append(element);
  return element;
}
