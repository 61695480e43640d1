const kept = 100; // the page may stay open for days
const long = 90; // characters, from which on a line is not set in large type

const sseData = document.getElementById('sse-data');

// showLine puts an event on top of the others.
export function showLine({ type, data }) {
  const line = document.createElement('p');
  line.textContent = type === 'gap' ? gap(JSON.parse(data)) : text(JSON.parse(data)); // never markup
  line.classList.add(type);
  line.classList.toggle('long', line.textContent.length > long);
  sseData.prepend(line);
  if (sseData.childElementCount > kept) sseData.lastElementChild.remove();
}

function text(data) {
  return typeof data?.message === 'string' ? data.message : JSON.stringify(data);
}

function gap({ missed }) {
  if (missed === null) return 'Some messages were missed';
  return missed === 1 ? '1 message was missed' : `${missed.toLocaleString('en')} messages were missed`;
}
