import { SharedEventSource } from '/lib/shared-event-source.js';
const [question, answer, state, stop] = document.querySelectorAll('h1, main, output, footer button');
const { stream, token } = answer.dataset; // the app puts them into the page of an answer
let silence; // a timer

function say(text, writing = false) {
  if (state.value !== text) state.value = text; // otherwise screen readers would read it again
  answer.setAttribute('aria-busy', writing); // they read the answer when it is complete
  stop.hidden = !writing;
  clearTimeout(silence);
  if (writing) silence = setTimeout(ask, 5_000);
}

async function ask() { // the app, whether there will be any more words
  const [asked, { status }] = [silence, await fetch('', { method: 'HEAD' }).catch(() => ({}))];
  if (asked === silence) say(status === 200 ? state.value : 'Broken off: the app does not write any more', status === 200);
}

if (stream) {
  question.textContent = '';
  const source = new SharedEventSource(`${stream}&lastEventId=earliest`, { headers: { Authorization: `Bearer ${token}` } });
  source.onopen = () => say('Writing', true);
  source.onerror = ({ status }) => say(`Connection lost (${status ?? 'no answer'})`, true);
  source.ongap = () => answer.append(' [some words are missing] ');
  source.onmessage = ({ type, data }) => {
    const message = JSON.parse(data);
    question.textContent ||= message.question ?? '[The beginning is no longer kept]';
    if (type !== 'whole') answer.append(message.text ?? ''); // text, never markup
    else if (answer.textContent !== message.text) answer.textContent = message.text;
    say(message.end ?? 'Writing', !message.end);
    if (message.end) source.close();
  };
  source.addEventListener('whole', source.onmessage);
  stop.onclick = () => fetch('', { method: 'DELETE' }).catch(() => say('The app does not answer', true));
}
