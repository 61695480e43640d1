// The app: it serves the page, takes a question, runs the model, and publishes what the model writes.
import { createHmac, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

const { PORT = 4000, PUSH_URL = 'http://localhost:3000', PUBLISH_TOKEN, SUBSCRIBE_KEY } = process.env;
const read = (name) => readFileSync(new URL(name, import.meta.url), 'utf8');
const stream = (id) => `${PUSH_URL}/sse?topic=private/answers/${id}`;
const writing = new Map(); // the AbortController of each answer that is being written

// model stands for yours. It has one answer to every question, and writes 50 words a second.
async function* model(question, signal) {
  for (const word of read('model.txt').match(/\S+\s*/g)) {
    await sleep(20, undefined, { signal });
    yield word;
  }
}

// write publishes one group of words after the other, which keeps them in order, and at the end the whole in their place.
async function write(id, question) {
  const flush = () => sent < text.length && Promise.all([publish(id, { text: text.slice(sent, (sent = text.length)) }), sleep(50)]);
  let [stop, published, text, sent, end] = [new AbortController(), Promise.resolve(), '', 0, 'Finished'];
  const after = (task) => (published = published.then(task)).catch(() => stop.abort());
  writing.set(id, stop);
  after(() => publish(id, { question }));
  try {
    for await (const word of model(question, stop.signal)) {
      if (stop.signal.aborted) break; // a model need not notice
      text += word;
      after(flush);
    }
  } catch (error) {
    end = `The model failed: ${error.message}`;
  }
  if (stop.signal.aborted) end = 'Stopped';
  const whole = () => publish(id, { question, text, end }, '&event=whole&replace=true&end=true'); // may be too large for one event
  await published.then(whole).catch(() => publish(id, { end }, '&end=true')).catch(console.error).finally(() => writing.delete(id));
}

// publish returns once the message is kept. It tries again until then, with the same key, so that nothing comes twice.
async function publish(id, message, query = '') {
  const headers = { Authorization: `Bearer ${PUBLISH_TOKEN}`, 'Content-Type': 'application/json', 'Idempotency-Key': randomUUID() };
  for (;; await sleep(250)) {
    const request = { method: 'POST', headers, body: JSON.stringify(message), signal: AbortSignal.timeout(5_000) };
    const response = await fetch(stream(id) + query, request).catch(() => {});
    const text = await response?.text().catch(() => ''); // which also frees the connection
    if (response?.ok) return;
    if (response?.status < 500) throw new Error(`${PUSH_URL} answers ${response.status}: ${text}`);
  }
}

// token opens one answer. It is the same all day, because tabs share a connection only if they have the same token.
function token(id) {
  const claims = { topics: [`private/answers/${id}`], exp: (Math.floor(Date.now() / 86_400_000) + 2) * 86_400 };
  const text = [{ alg: 'HS256' }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
  return `${text}.${createHmac('sha256', SUBSCRIBE_KEY).update(text).digest('base64url')}`;
}

async function serve(request, response) {
  const [, id] = /^\/([0-9a-f-]{36})$/.exec(request.url) ?? [];
  const [, lib, file] = /^(\/lib)?(\/[a-z-]+\.(?:js|css))$/.exec(request.url) ?? [];
  const type = file ? (file.endsWith('.js') ? 'text/javascript' : 'text/css') : 'text/html';
  const send = (status, body) => response.writeHead(status, { 'Content-Type': type, 'Cache-Control': 'no-store' }).end(body);
  if (id && request.method === 'HEAD') return send(writing.has(id) ? 200 : 204);
  if (id && request.method === 'DELETE') return send(204, writing.get(id)?.abort());
  if (file) return send(200, read((lib ? '../../../public/lib' : '.') + file));
  const data = id ? `data-stream="${stream(id)}" data-token="${token(id)}"` : '';
  if (request.method !== 'POST') return send(200, read('index.html').replace('data-answer', data));
  const form = new URLSearchParams((await request.setEncoding('utf8').take(16).toArray()).join(''));
  if (writing.size >= 100) return send(503, 'Too many answers are being written. Try again in a minute.');
  const answer = randomUUID(); // only those who have it can read the answer
  response.writeHead(303, { Location: `/${answer}` }).end();
  await write(answer, String(form.get('question')).slice(0, 10_000));
}
createServer((request, response) => serve(request, response).catch((error) => response.writeHead(error.code === 'ENOENT' ? 404 : 500).end(console.error(error))))
  .listen(PORT, () => console.log(`Open http://localhost:${PORT}`));
