import { SharedEventSource } from '../lib/shared-event-source.js';
import { rowOf } from './ansi.js';

const [heading, state, silence, toEnd, log] = document.querySelectorAll('h1, output, small, button, main');
const [build, rows] = [location.search.slice(1), document.createDocumentFragment()]; // rows that are not shown yet
let latest, following = true; // when the latest line came; whether the end is in sight

function add(line) {
  say('Running');
  if (!rows.hasChildNodes()) setTimeout(() => { look(); log.append(rows); follow(); }, 20); // a burst is laid out once
  rows.append(rowOf(line));
  latest = Date.now();
}
function follow() {
  if (!following) return;
  for (; log.childElementCount > 10_000; log.children[1].remove()) log.children[0].textContent = '[Earlier lines are not shown]\n';
  scrollTo(0, document.documentElement.scrollHeight);
}
function say(text) {
  if (state.value === text) return; // otherwise screen readers would read it again
  [heading.textContent, state.value, document.title] = [`Build ${build}`, text, `${text}: build ${build}`];
  [state.className] = text.split(' ');
}
function outcome(data) {
  const { code, seconds } = JSON.parse(data);
  return `${code === '0' ? 'Succeeded' : `Failed with exit code ${code}`} after ${seconds} s`;
}

const look = (onscroll = () => { toEnd.hidden = following = scrollY + innerHeight > document.documentElement.scrollHeight - 20; });
onresize = follow;
toEnd.onclick = () => { following = true; follow(); look(); };

function showLog() {
  const source = new SharedEventSource(`../sse?topic=builds/${encodeURIComponent(build)}&lastEventId=earliest`);
  source.onopen = () => say(latest ? 'Running' : 'Waiting for the first line');
  source.onerror = ({ status, message }) => say(status === 204 ? 'Ended without an exit code' : message ?? (status ? `The server answers ${status}` : 'Connection lost'));
  source.ongap = () => add(`\x1b[;2m[${latest ? 'Some lines are missing' : 'The beginning was not published, or is no longer kept'}]\x1b[m`);
  source.addEventListener('start', ({ data }) => add(`\x1b[;1m$ ${JSON.parse(data).command}\x1b[m`));
  source.onmessage = ({ data }) => {
    if (!latest) source.ongap();
    add(JSON.parse(data).message);
  };
  source.addEventListener('exit', ({ data }) => {
    say(outcome(data));
    source.close();
  });
  setInterval(() => {
    const minutes = Math.floor((Date.now() - latest) / 60_000);
    silence.textContent = minutes && state.value === 'Running' ? `No line for ${minutes} min: the build is quiet, or was killed` : '';
  }, 1_000);
}

function showList() { // the latest event of each build, and what comes; the newest build first
  const source = new SharedEventSource('../sse?topic=builds/*&lastEventId=latest');
  const list = log.appendChild(document.createElement('ul'));
  document.title = heading.textContent = 'Builds';
  source.onstatechange = () => { state.value = !source.live ? 'Loading' : list.hasChildNodes() ? '' : 'There is none yet'; };
  source.onerror = ({ message }) => { state.value = message ?? 'Connection lost'; };
  source.onmessage = ({ type, topic, time, data }) => {
    const number = topic.slice('builds/'.length);
    const row = document.getElementById(number) ?? document.createElement('li');
    if (!row.id) list.prepend(Object.assign(row, { id: number, innerHTML: '<a></a> <output></output> <time></time>' }));
    const [link, how, when] = row.children;
    [link.textContent, link.href, when.textContent, state.value] = [number, `?${number}`, time.toLocaleString(), ''];
    how.value = type === 'exit' ? outcome(data) : Date.now() - time < 180_000 ? 'Running' : 'Quiet since then';
    [how.className] = how.value.split(' ');
  };
  for (const name of ['start', 'exit']) source.addEventListener(name, source.onmessage);
}

if (build) showLog();
else showList();
