const [keptLines, keptTicks] = [500, 5]; // the page may stay open for days
const [short, long, clamped, unopened] = [40, 120, 280, 1_000]; // characters: in large type, beside the clock, before "Show all", and laid out until then
const [announceInterval, frame] = [5_000, 100]; // ms; a page that is hidden has no frames of its own
const [clockTime, dayTime] = [{ timeStyle: 'medium' }, { dateStyle: 'medium', timeStyle: 'short' }].map((style) => new Intl.DateTimeFormat('en', style));

// createLines fills #sse-data with what the page shows: the latest message, the server's clock, and all
// messages, the newest last. An event that comes in moves nothing that somebody is reading.
export function createLines(sseData) {
  const topics = new URLSearchParams(location.search).getAll('topic');
  const many = topics.length > 1 || topics.some((topic) => topic.endsWith('*')); // a line says which one it is of
  if (topics.length) name(topics.length > 3 ? `${topics.slice(0, 2).join(', ')} and ${topics.length - 2} more topics` : topics.join(', '));

  const latest = append(sseData, 'div', { className: 'latest' });
  const published = append(latest, 'p', { className: 'published' });
  const headline = append(latest, 'p', { className: 'headline', dir: 'auto' });
  const clock = append(sseData, 'ul', { className: 'ticks' });
  for (let n = 0; n < keptTicks; n++) append(clock, 'li');
  const pause = append(append(sseData, 'div', { className: 'bar' }), 'button', { type: 'button' });
  const log = append(sseData, 'ol', { className: 'messages', tabIndex: 0, ariaLabel: 'Messages' }); // it scrolls
  const omitted = append(log, 'li', { className: 'omitted' });
  const toEnd = append(append(sseData, 'div', { className: 'end' }), 'button', { type: 'button', textContent: 'To the end', hidden: true });
  const announcement = append(sseData, 'p', { className: 'announcement', role: 'status' });

  const storage = `lines of ${location.pathname}${location.search}`;
  let lines = []; // what the page shows: messages, { data, at, label }, and gaps, { gap, at }
  let waiting = []; // what it does not show yet
  let [left, skipped] = [0, 0]; // how many lines are in neither any longer, and how many of them were never shown
  let paused = false;
  let ticks = []; // the newest first
  let lastId; // a new one means a message
  let wasLive = false;
  let atEnd = true; // the reader of the messages is at their end
  let [nextFrame, timer] = []; // of the next update, if there is one
  let [newest, unannounced, announced] = ['', 0, 0]; // the text, how many messages, and when the last announcement was made

  // Whatever comes in within a frame is shown at once.
  function update() {
    timer ??= setTimeout(show, frame);
    nextFrame ??= requestAnimationFrame(show);
  }

  function show() {
    cancelAnimationFrame(nextFrame);
    clearTimeout(timer);
    nextFrame = timer = undefined;
    if (!paused && waiting.length) showLines();
    pause.textContent = paused ? `Resume${waiting.length ? ` (${waiting.length + skipped})` : ''}` : 'Pause';
    showTicks();
  }

  function showLines(announces = true) {
    look();
    const surplus = Math.max(0, lines.length + waiting.length - keptLines); // at most all of lines
    const first = log.children[1 + surplus]; // that stays
    const place = first?.offsetTop;
    const rows = waiting.map(row);
    for (let n = 0; n < surplus; n++) log.children[1].remove();
    log.querySelector('.above')?.classList.remove('above');
    log.append(...rows);
    left += surplus;
    omitted.textContent = left ? `${left.toLocaleString('en')} earlier lines are not shown. The page has the newest ${keptLines}.` : '';
    const message = waiting.findLast(({ gap }) => !gap);
    if (message) {
      const text = inShort(message.data);
      headline.textContent = text.slice(0, 1_000);
      headline.classList.toggle('long', text.length > short);
      sseData.classList.add('has-message');
      published.replaceChildren('Latest · ', time(message.at), message.label ? ` · ${message.label}` : '');
      if (message === waiting.at(-1) && text.length <= long && !message.label) rows.at(-1).classList.add('above'); // so that the text is not shown twice
    }
    if (announces) announce(waiting.at(-1).gap ?? headline.textContent, waiting.length + skipped);
    lines = lines.concat(waiting).slice(-keptLines);
    [waiting, skipped] = [[], 0];
    sseData.classList.add('has-lines');
    if (atEnd) log.scrollTop = log.scrollHeight;
    else if (first) log.scrollTop += first.offsetTop - place;
  }

  function showTicks() {
    const hasMessage = sseData.classList.contains('has-message');
    if (!hasMessage) headline.textContent = ticks[0] ?? '';
    const shown = hasMessage ? ticks.slice(0, 1) : ticks.slice(1);
    [...clock.children].forEach((item, n) => (item.textContent = shown[n] ?? ''));
    clock.hidden = ticks.length === 0;
    sseData.classList.toggle('empty', ticks.length + lines.length === 0);
  }

  // announce is for screen readers. It waits between texts, so that they do not speak all the time.
  function announce(text, count) {
    newest = text.slice(0, clamped);
    if (unannounced === 0) setTimeout(speak, Math.max(0, announced + announceInterval - Date.now()));
    unannounced += count;
  }

  function speak() {
    announcement.textContent = unannounced > 1 ? `${unannounced} messages. The latest: ${newest}` : newest;
    [unannounced, announced] = [0, Date.now()];
  }

  function receive(line) {
    waiting.push(line);
    if (waiting.length > keptLines) {
      waiting.shift();
      [left, skipped] = [left + 1, skipped + 1];
    }
    update();
  }

  function look() {
    toEnd.hidden = atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 8;
  }

  log.onscroll = look;
  new ResizeObserver(() => atEnd && (log.scrollTop = log.scrollHeight)).observe(log);
  toEnd.onclick = () => {
    log.focus(); // the button goes
    log.scrollTop = log.scrollHeight;
    look();
  };
  pause.onclick = () => {
    paused = !paused;
    show();
  };
  show();

  return {
    // resume brings back what this tab showed before it was reloaded, and returns the address to go on from there, or
    // from the oldest message that is kept.
    resume(address) {
      const stored = restore(storage);
      lastId = stored.lastId;
      waiting = stored.lines ?? [];
      if (waiting.length) showLines(false);
      const resumed = new URL(address, location.href);
      if (lastId || !resumed.searchParams.has('lastEventId')) resumed.searchParams.set('lastEventId', lastId || 'earliest');
      return resumed.href;
    },

    // keep stores what the tab shows when the page goes away, for resume.
    keep(eventSource) {
      eventSource.addEventListener('statechange', () => { wasLive ||= eventSource.live; });
      eventSource.addEventListener('position', (event) => { // the browser's own EventSource passes it on
        lastId = event.lastEventId;
        wasLive ||= JSON.parse(event.data).live;
      });
      addEventListener('pagehide', () => store(storage, { lines: lines.concat(waiting).slice(-keptLines), lastId: eventSource.lastEventId ?? lastId }));
    },

    add(data, { lastEventId: id, time, topic, name = 'message' }) {
      // A tick has no id. The browser's own EventSource gives it the id of the event before.
      const isMessage = id && id !== lastId;
      lastId = id || lastId;
      if (isMessage) return receive({ data, at: +(time ?? Date.now()), label: [many && topic, name !== 'message' && name].filter(Boolean).join(' · ') || undefined });
      if (paused) return;
      ticks = [inShort(data), ...ticks].slice(0, keptTicks);
      update();
    },

    addGap(id) {
      lastId = id;
      // After a restart, nobody knows whether any message is missing. Say nothing in a tab that never had one.
      const isFirst = lines.length + waiting.length === 0;
      if (!isFirst || !wasLive) receive({ gap: isFirst ? 'Earlier messages are no longer kept' : 'Some messages were missed', at: Date.now() });
    },
  };
}

// name says what the page shows.
function name(topics) {
  document.querySelector('h1').textContent = topics.slice(0, 200);
  document.title = `${topics.slice(0, 100)} · ${document.title}`;
}

function restore(name) {
  try {
    return JSON.parse(sessionStorage.getItem(name)) ?? {};
  } catch {
    return {}; // storage is blocked
  }
}

function store(name, state) {
  try {
    sessionStorage.setItem(name, JSON.stringify(state));
  } catch {} // blocked, or full: what was stored before stays, and the rest comes from the server
}

// textOf returns the text of a message, or undefined if it has none.
function textOf(data) {
  const text = typeof data === 'string' ? data : data?.message;
  return typeof text === 'string' && text.trim() ? text : undefined;
}

const inShort = (data) => textOf(data) ?? JSON.stringify(data);

function row({ data, gap, at, label }) {
  const item = document.createElement('li');
  item.append(time(at));
  if (gap) item.className = 'gap';
  if (label) append(item, 'span', { className: 'label', textContent: label });
  const text = gap ?? textOf(data);
  const all = text ?? JSON.stringify(data, null, 2);
  const body = append(item, text === undefined ? 'pre' : 'p', { dir: 'auto', textContent: all }); // never markup
  if (all.length <= clamped && all.split('\n').length <= 6) return item;
  const open = append(item, 'button', { type: 'button' });
  const close = (isClosed) => {
    body.classList.toggle('clamped', isClosed);
    body.textContent = isClosed ? all.slice(0, unopened) : all;
    open.textContent = isClosed ? 'Show all' : 'Show less';
    open.ariaExpanded = !isClosed;
  };
  open.onclick = () => close(open.ariaExpanded === 'true');
  close(true);
  return item;
}

function time(at) {
  const date = new Date(at);
  const isToday = date.toDateString() === new Date().toDateString();
  return Object.assign(document.createElement('time'), { dateTime: date.toISOString(), textContent: (isToday ? clockTime : dayTime).format(date) });
}

function append(parent, name, properties) {
  return parent.appendChild(Object.assign(document.createElement(name), properties));
}
