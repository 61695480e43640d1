import { SharedEventSource } from '/lib/shared-event-source.js';
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

const look = (onscroll = () => { toEnd.hidden = following = scrollY + innerHeight > document.documentElement.scrollHeight - 20; });
onresize = follow;
toEnd.onclick = () => { following = true; follow(); look(); };
setInterval(() => {
  const minutes = Math.floor((Date.now() - latest) / 60_000);
  silence.textContent = minutes && state.value === 'Running' ? `No line for ${minutes} min: the build is quiet, or was killed` : '';
}, 1_000);

const source = new SharedEventSource(`/sse?topic=builds/${encodeURIComponent(build)}&lastEventId=earliest`);
source.onopen = () => say(latest ? 'Running' : 'Waiting for the first line');
const errors = { undefined: 'Connection lost', 204: 'Ended without an exit code', 400: 'The address needs the number of a build, such as ?42' };
source.onerror = ({ status }) => say(errors[status] ?? `The server answers ${status}`);
source.ongap = () => add(`\x1b[;2m[${latest ? 'Some lines are missing' : 'The beginning was not published, or is no longer kept'}]\x1b[m`);
source.addEventListener('start', ({ data }) => add(`\x1b[;1m$ ${JSON.parse(data).command}\x1b[m`));
source.onmessage = ({ data }) => {
  if (!latest) source.ongap();
  add(JSON.parse(data).message);
};
source.addEventListener('exit', ({ data }) => {
  const { code, seconds } = JSON.parse(data);
  say(`${code === '0' ? 'Succeeded' : `Failed with exit code ${code}`} after ${seconds} s`);
  source.close();
});
