import { SharedEventSource } from '/lib/shared-event-source.js';
const find = (selector) => document.querySelector(selector);
const reload = () => location.reload(); // the shop shows the page of the signed-in customer, or the form
const tabs = new BroadcastChannel('customer'); // signing in or out in one tab does so in all of them
tabs.onmessage = reload;
onpageshow = ({ persisted }) => persisted && reload();
const say = (text) => { [find('#connection').textContent, find('#connection').className] = [text, text]; };

document.querySelectorAll('form').forEach((form) => (form.onsubmit = async (event) => {
  event.preventDefault();
  const { ok, status } = await fetch(form.action, { method: 'POST', body: new URLSearchParams(new FormData(form)) }).catch(() => ({}));
  if (ok) return [tabs.postMessage(''), reload()];
  find('#wrong').textContent = status === 403 ? 'Wrong name or password' : `The shop does not answer (${status ?? 'no network'}). Try again.`;
  find('#wrong').focus(); // at which screen readers read it
}));

async function ask(path, method) { // until the shop answers. Only 401 means that nobody is signed in
  for (;; await new Promise((resolve) => setTimeout(resolve, 2_000))) {
    const answer = await fetch(path, { method }).catch(() => ({}));
    if (answer.ok) return answer;
    if (answer.status === 401) return reload();
    say(`The shop does not answer (${answer.status ?? 'no network'})`);
  }
}
async function showOrders() {
  const { name, orders, stream } = await (await ask('/orders')).json();
  find('h1').textContent = `Orders of ${name}`;
  orders.forEach(show);
  return stream;
}
function show({ number, goods, status }) {
  const row = document.getElementById(number) ?? find('ul').appendChild(Object.assign(document.createElement('li'), { id: number }));
  row.textContent = `${goods} (${number}): ${status}`; // never innerHTML: an order is not markup
}

if (find('#sign-out')) {
  say('Connecting');
  const source = new SharedEventSource(await showOrders(), { withCredentials: true, renew: () => ask('/renew', 'POST').then(tell) });
  const tell = () => { say(source.live ? 'Live' : 'Connecting'); return true; }; // there is a new cookie
  source.onmessage = ({ data }) => show(JSON.parse(data));
  source.ongap = () => showOrders().then(tell); // events are missing, so ask the shop
  source.onstatechange = tell;
  source.onerror = ({ status }) => say(source.readyState === source.CLOSED ? 'Ended: reload the page' : `Connection lost (${status ?? 'no answer'})`);
}
