const find = (selector) => document.querySelector(selector);
const ask = () => fetch('/orders').then((answer) => answer.json()).catch(() => ({})); // empty unless a customer is signed in
const { name, orders, stream } = await ask();
find(name ? '#sign-out' : '#sign-in').hidden = false;
const tabs = new BroadcastChannel('customer'); // signing in or out in one tab does so in all of them
tabs.onmessage = ({ data }) => { if (data !== name) location.reload(); };
tabs.postMessage(name);
function show({ number, goods, status }) {
  const row = document.getElementById(number) ?? find('ul').appendChild(Object.assign(document.createElement('li'), { id: number }));
  row.textContent = `${goods} (${number}): ${status}`; // never innerHTML: an order is not markup
}

if (name) {
  orders.forEach(show);
  [find('h1').textContent, find('#connection').textContent] = [`Orders of ${name}`, 'Connecting'];
  import(new URL('/lib/shared-event-source.js', stream)).then(({ SharedEventSource }) => {
    const source = new SharedEventSource(stream, { withCredentials: true, renew: async () => (await fetch('/renew', { method: 'POST' })).ok });
    source.onmessage = ({ data }) => show(JSON.parse(data));
    source.onstatechange = () => { find('#connection').textContent = ['Connecting', 'Live', 'Ended: reload the page'][source.readyState]; };
    source.ongap = async () => (await ask()).orders?.forEach(show); // events are missing, so ask the shop
  }, () => setTimeout(() => location.reload(), 5_000)); // until the push server is there
}
