import { SharedEventSource } from '../lib/shared-event-source.js';

const [state, main] = document.querySelectorAll('output, main');
const cards = new Map(); // by topic: { card, parts, time }

// What is kept is the newest value of each figure. After it, new ones come as they are published.
const source = new SharedEventSource('../sse?topic=machines/*&lastEventId=earliest');
source.onstatechange = () => say(source.live ? 'Live' : 'Loading');
source.onerror = ({ status, message }) => say(message ?? `Connection lost (${status ?? 'no answer'})`);
source.onmessage = ({ topic, data, time }) => show(topic, JSON.parse(data), time);

function say(text) {
  [state.value, state.className] = [text, text];
}

function show(topic, { name, text, part }, time) {
  const figure = cards.get(topic) ?? { card: add(topic), parts: [] };
  cards.set(topic, Object.assign(figure, { time }));
  const [title, value, chart] = figure.card.children;
  [title.textContent, value.textContent] = [name, text]; // never innerHTML: a figure is not markup
  chart.hidden = part === null;
  const parts = (figure.parts = [...figure.parts, part].slice(-60)); // two minutes
  chart.querySelector('polyline').setAttribute('points', parts.map((y, n) => `${60 - parts.length + n},${20 - 20 * y}`).join(' '));
  Object.assign(chart.querySelector('meter'), { value: part ?? 0, high: 0.9, ariaLabel: name });
  age(figure);
}

function add(topic) {
  const machine = topic.split('/')[1];
  const section = document.getElementById(machine) ?? insert(main, copy('machine'), machine);
  section.firstChild.textContent = machine;
  return insert(section.lastChild, copy('figure'), topic);
}
function insert(parent, element, id) { // in the order of their ids, as values come in any order
  parent.insertBefore(element, [...parent.children].find((other) => other.id > id));
  return Object.assign(element, { id });
}
const copy = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

function age({ card, time }) { // a machine that is off sends nothing
  card.className = Date.now() - time > 10_000 ? 'old' : '';
  card.title = card.className && `Of ${time.toLocaleString()}`;
}
setInterval(() => cards.forEach(age), 1_000);
