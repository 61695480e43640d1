// Runs SharedEventSource in the tabs of a simulated browser, on simulated time. Tabs are opened, frozen, stuck and
// killed at random, and so is the server; connections die without a word; tokens expire; the components of a page come
// and go. No listener may lose or double a message, none may wait forever, and few streams may be opened.
//
//   node tabs.mjs FOLDER SEED RUNS    the module is in FOLDER; the runs have the seeds from SEED on
//
// A run that fails prints what happened in it, and ends the program.

import { readFileSync } from 'node:fs';

const [folder, seed, runs] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];

// Each tab has the module of its own: every file is a function of what it imports.
const files = ['parser', 'connection', 'reader', 'tabs', 'shared-event-source'].map((name) => {
  const text = readFileSync(`${folder}/${name}.js`, 'utf8');
  const exported = [...text.matchAll(/^export (?:class|function|const) (\w+)/gm)].map(([, name]) => name);
  const body = text.replace(/^import (\{.*\}) from '\.\/(.*)\.js';$/gm, "const $1 = modules['$2'];").replace(/^export /gm, '');
  return `modules['${name}'] = (() => { ${body}; return { ${exported} }; })();`;
});
const module = `'use strict'; const modules = {}; ${files.join('\n')}; return modules['shared-event-source'].SharedEventSource;`;

// mulberry32 returns a random generator that a seed determines. Math.random takes no seed.
function mulberry32(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

// World has the time, the random numbers, and what all tabs share.
class World {
  now = 1_800_000_000_000; // ms
  started = this.now;
  tasks = []; // by time
  happened = [];
  failures = [];
  tabs = [];
  channels = new Set();
  lock = { queue: [] }; // its holder, and the requests that wait; all tabs want the same lock
  disturbances = 0; // things that may cost a stream

  constructor(seed) {
    this.random = mulberry32(seed);
    this.latency = this.pick([1, 5, 50, 400]); // ms, at most
    this.locks = this.pick(['granted', 'granted', 'granted', 'granted', 'refused', 'absent', 'no channels']);
    this.tokens = this.random() < 0.3; // the streams are private
    this.expires = this.now; // when the token in the browser's cookie does
    this.server = new Server(this);
  }

  pick(list) {
    return list[Math.floor(this.random() * list.length)];
  }

  between(low, high) {
    return low + Math.floor(this.random() * (high - low + 1));
  }

  note(text) {
    this.happened.push(`${((this.now - this.started) / 1_000).toFixed(3)} ${text}`);
  }

  fail(text) {
    this.note(`FAILED: ${text}`);
    this.failures.push(text);
  }

  disturb(text, cost = 1) {
    this.note(text);
    this.disturbances += cost;
  }

  after(ms, run) {
    const time = this.now + ms;
    const later = this.tasks.findLastIndex((task) => task.time <= time);
    this.tasks.splice(later + 1, 0, { time, run });
  }

  soon(run) {
    this.after(this.random() * this.latency, run);
  }

  async pass(ms) {
    const end = this.now + ms;
    while (this.tasks.length > 0 && this.tasks[0].time <= end && this.failures.length === 0) {
      const { time, run } = this.tasks.shift();
      this.now = time;
      run();
      await new Promise(setImmediate); // promises are settled before the next task
    }
    this.now = end;
  }
}

// Pipe delivers in order. What goes through one pipe may overtake what goes through another.
class Pipe {
  last = 0;

  constructor(world) {
    this.world = world;
  }

  send(run) {
    this.last = Math.max(this.last, this.world.now + this.world.random() * this.world.latency);
    this.world.after(this.last - this.world.now, run);
  }
}

// Server does what the real one does for one topic. The numbers in between are those of other topics.
class Server {
  epoch = 1;
  runs = [[0, 0]]; // the first and the last number that each start gave; those between the runs were never given
  published = { 1: [] }; // the numbers of each epoch
  kept = [];
  ended = 0; // the number of the message that ended the topic
  ends = new Set(); // ids after which nothing comes any more
  lost = []; // such runs, and their epochs, since a backup without them was put back
  backup;
  up = true;
  streams = new Set();
  opened = 0; // streams
  parts = 0; // finite requests
  ticks = 0;

  constructor(world) {
    this.world = world;
    this.history = world.pick([3, 10, 1_000]);
  }

  get last() { return this.runs.at(-1)[1]; }

  id(number) {
    return `e${this.epoch}-${number}`;
  }

  // give gives numbers to messages. A backup keeps the lists before.
  give(count) {
    this.runs = this.runs.with(-1, [this.runs.at(-1)[0], this.last + count]);
  }

  publish({ end = false } = {}) {
    if (this.ended) return;
    this.give(this.world.between(1, 3));
    this.published[this.epoch] = [...this.published[this.epoch], this.last];
    this.kept = [...this.kept, this.last].slice(-this.history);
    this.world.note(`the server publishes ${this.id(this.last)}${end ? ', the end' : ''}`);
    this.send(this.frame(this.last));
    if (!end) return;
    this.ended = this.last;
    this.ends.add(this.id(this.last));
    this.cut();
  }

  send(text) {
    for (const stream of this.streams) stream.write(text);
  }

  cut() {
    for (const stream of this.streams) stream.end();
  }

  // restart forgets all messages, unless they are on disk.
  restart(disk) {
    this.cut();
    if (disk) return;
    Object.assign(this, { epoch: this.epoch + 1, runs: [[0, 0]], kept: [], ended: 0, backup: undefined });
    this.published[this.epoch] = [];
  }

  backUp() {
    const { last, runs, kept, ended } = this;
    this.backup = { last, runs, kept, ended, published: this.published[this.epoch] };
  }

  // putBack starts with the backup. As every start does, it leaves a hole in the numbers, by which later ids are known.
  putBack() {
    this.cut();
    const { last, runs, kept, ended, published } = this.backup;
    for (const [from, to] of this.runs) if (to > last) this.lost.push([this.epoch, Math.max(from, last + 1), to]);
    const next = last + this.world.between(1, 1e12);
    Object.assign(this, { runs: [...runs, [next, next]], kept, ended });
    this.published[this.epoch] = published;
  }

  // forgot tells whether the server gave that id before a backup was put back that does not have it.
  forgot(id) {
    const [, epoch, number] = /^e(\d+)-(\d+)$/.exec(id)?.map(Number) ?? [];
    return this.lost.some(([of, from, to]) => of === epoch && from <= number && number <= to);
  }

  frame(number) {
    return `id:${this.id(number)}\ndata:${number}\n\n`;
  }

  gap(number) {
    return `id:${this.id(number)}\nevent:gap\ndata:{}\n\n`;
  }

  position(number, live) {
    const expires = this.world.tokens ? `,"expires":${this.world.expires / 1_000}` : '';
    return `id:${this.id(number)}\nevent:position\ndata:{"live":${live}${expires}}\n\n`;
  }

  // latest returns the newest kept message of each topic. That of a message is its number modulo 3.
  latest() {
    return this.kept.filter((n) => !this.kept.some((later) => later > n && later % 3 === n % 3));
  }

  answer(stream, after, follow) {
    const { world } = this;
    if (!this.up) return stream.head(503);
    if (world.tokens && world.now >= world.expires) return stream.head(401);
    const [, epoch, number] = /^e(\d+)-(\d+)$/.exec(after) ?? [];
    const known = Number(epoch) === this.epoch && this.runs.some(([from, to]) => from <= number && number <= to);
    if (this.ended) this.ends.add(after).add(this.id(this.last));
    if (known && this.ended && number >= this.ended) return stream.head(204);
    const whole = after === 'earliest' || after === 'latest' || (after === '' && (this.ended || !follow));
    const begins = known ? Number(number) : after === '' && !whole ? this.last : (this.kept[0] ?? this.last + 1) - 1;
    const lost = known ? this.published[this.epoch].filter((n) => n > begins && !this.kept.includes(n)) : [];
    let gap = '';
    if (lost.length > 0) gap = this.gap(lost.at(-1));
    else if (!known && after !== '' && !whole) gap = this.gap(begins);
    const kept = after === 'latest' ? this.latest() : this.kept.filter((n) => n > begins);
    if (follow) this.opened++;
    else this.parts++;
    this.streams.add(stream);
    stream.expires = world.expires;
    stream.head(200);
    stream.write(`retry:${world.between(200, 5_000)}\n${this.position(kept.length === 0 && gap === '' && !follow ? this.last : begins, kept.length === 0 && gap === '')}${gap}`);
    for (const n of kept) stream.write(this.frame(n));
    if (kept.length > 0 || gap !== '') stream.write(this.position(this.last, true));
    if (this.ticks > 0 && follow) stream.write(`data:${this.ticks}\n\n`);
    if (this.ended || !follow) stream.end();
    if (world.tokens) world.after(world.expires - world.now, () => this.streams.has(stream) && stream.end());
  }
}

// Stream is one request and its answer.
class Stream {
  pieces = [];

  constructor(tab, url, signal) {
    const { world } = tab;
    this.tab = tab;
    this.url = url.href;
    this.pipe = new Pipe(world);
    this.response = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
    tab.streams.add(this);
    signal.addEventListener('abort', () => {
      this.reject(new Error('aborted'));
      this.waiting?.reject(new Error('aborted'));
      this.close();
    });
    const after = url.searchParams.get('lastEventId') ?? '';
    world.note(`${tab.name} asks for what comes after ${after || 'now'}${url.searchParams.has('follow') ? ', and the end' : ''}`);
    world.soon(() => this.closed || !tab.alive || world.server.answer(this, after, url.searchParams.get('follow') !== 'false'));
  }

  // close closes it from the side of the browser.
  close() {
    const { world } = this.tab;
    this.closed = true;
    world.soon(() => world.server.streams.delete(this));
  }

  head(status) {
    const headers = { get: (name) => (name === 'Content-Type' && status === 200 ? 'text/event-stream' : null) };
    const body = { getReader: () => ({ read: () => this.read(), cancel: async () => {} }) };
    this.arrive(() => this.resolve({ status, headers, body, url: this.url }));
  }

  write(text) {
    const at = this.tab.world.between(0, text.length);
    for (const value of [text.slice(0, at), text.slice(at)]) this.deliver({ value });
  }

  end() {
    this.tab.world.server.streams.delete(this);
    this.deliver({ done: true });
  }

  deliver(piece) {
    this.arrive(() => {
      if (!this.waiting) return this.pieces.push(piece);
      this.waiting.resolve(piece);
      this.waiting = undefined;
    });
  }

  arrive(run) {
    if (!this.dead) this.pipe.send(() => this.tab.run(run));
  }

  async read() {
    if (this.closed) throw new Error('aborted');
    return this.pieces.shift() ?? new Promise((resolve, reject) => (this.waiting = { resolve, reject }));
  }
}

// Target removes listeners by their signal. Node's own EventTarget forgets to once the garbage collector has run.
class Target extends EventTarget {
  addEventListener(type, listener, { signal } = {}) {
    super.addEventListener(type, (event) => signal?.aborted || listener(event));
  }
}

class Tab {
  alive = true;
  stuck = false;
  held = []; // tasks that wait until it is no longer stuck
  streams = new Set();
  listeners = [];
  mounted = 0;
  window = new Target();
  document = Object.assign(new Target(), { hidden: false, baseURI: 'http://localhost/' });

  constructor(world, after) {
    this.world = world;
    this.name = `tab ${world.tabs.push(this)}`;
    this.toChannel = new Pipe(world);
    this.fromChannel = new Pipe(world);
    this.toLock = new Pipe(world);
    this.fromLock = new Pipe(world);
    const globals = this.globals();
    this.SharedEventSource = new Function(...Object.keys(globals), module)(...Object.values(globals));
    world.disturb(`${this.name} opens`);
    this.mount(after);
  }

  // mount adds a component that listens.
  mount(after) {
    this.listeners.push(new Listener(this, after));
  }

  unmount(listener) {
    listener.source.close();
    this.listeners = this.listeners.filter((other) => other !== listener);
  }

  // run does what comes from outside, now or when the tab is no longer stuck.
  run(task) {
    if (this.stuck) this.held.push(task);
    else if (this.alive) task();
  }

  globals() {
    const tab = this;
    const { world } = this;
    const timer = (run, ms = 0, again) => {
      const id = {};
      const wait = () => world.after(ms, () => tab.run(() => {
        if (id.cleared) return;
        if (again) wait();
        run();
      }));
      wait();
      return id;
    };
    const clear = (id) => id && (id.cleared = true);
    class BroadcastChannel {
      constructor() {
        if (world.locks === 'no channels') throw new DOMException('blocked', 'SecurityError');
        world.channels.add(this);
        this.tab = tab;
      }
      postMessage(message) {
        const data = structuredClone(message);
        tab.toChannel.send(() => world.channels.forEach((other) => {
          const hear = () => world.channels.has(other) && other.onmessage({ data });
          if (other !== this) other.tab.fromChannel.send(() => other.tab.run(hear));
        }));
      }
      close() {
        world.channels.delete(this);
      }
    }
    return {
      globalThis: Object.assign(this.window, { document: this.document }),
      crypto: { subtle: { digest: async () => new ArrayBuffer(1) } },
      navigator: world.locks === 'absent' ? {} : { locks: { request: (name, options, hold) => this.request(options, hold), query: () => this.query() } },
      BroadcastChannel,
      Math: { __proto__: Math, random: world.random },
      Date: { now: () => Math.floor(world.now), parse: Date.parse },
      setTimeout: (run, ms, ...more) => timer(() => run(...more), ms),
      setInterval: (run, ms) => timer(run, ms, true),
      clearTimeout: clear,
      clearInterval: clear,
      fetch: (url, { signal }) => new Stream(this, url, signal).response,
      TextDecoder: class { decode(text) { return text; } },
    };
  }

  async query() {
    if (this.world.locks === 'refused') throw new DOMException('refused', 'SecurityError');
  }

  // request asks for the lock.
  async request({ signal, steal }, hold) {
    const { world } = this;
    const { lock } = world;
    return new Promise((resolve, reject) => {
      const lose = () => reject(new DOMException('stolen', 'AbortError'));
      const request = {
        tab: this,
        grant: () => this.fromLock.send(() => this.run(async () => {
          resolve(await hold());
          this.toLock.send(() => lock.holder === request && this.pass());
        })),
        lose: () => this.fromLock.send(() => this.run(lose)),
      };
      signal?.addEventListener('abort', () => {
        lose();
        this.toLock.send(() => (lock.queue = lock.queue.filter((other) => other !== request)));
      });
      this.toLock.send(() => {
        if (!this.alive) return;
        if (steal) lock.queue.unshift(request);
        else lock.queue.push(request);
        if (steal) lock.holder?.lose();
        if (steal || !lock.holder) this.pass();
      });
    });
  }

  // pass gives the lock to the next tab.
  pass() {
    const { lock } = this.world;
    lock.holder = lock.queue.shift();
    lock.holder?.grant();
  }

  // vanish ends the tab. Its lock and its streams are free a little later.
  vanish() {
    const { world } = this;
    this.alive = false;
    for (const channel of world.channels) if (channel.tab === this) channel.close();
    for (const stream of this.streams) stream.close();
    this.toLock.send(() => {
      world.lock.queue = world.lock.queue.filter(({ tab }) => tab !== this);
      if (world.lock.holder?.tab === this) this.pass();
    });
  }

  look(hidden) {
    this.document.hidden = hidden;
    this.document.dispatchEvent(new Event('visibilitychange'));
  }

  goOn() {
    const { held } = this;
    Object.assign(this, { stuck: false, held: [] });
    for (const task of held) this.world.after(0, () => this.run(task));
  }
}

// Listener is one component with an EventSource.
class Listener {
  tick = 0;
  got = new Set(); // the ids of messages

  constructor(tab, after) {
    const { world } = tab;
    this.tab = tab;
    this.world = world;
    this.name = `${tab.name}.${++tab.mounted}`;
    this.after = after;
    this.last = after === 'earliest' || after === 'latest' ? '' : after; // the id of the last message or gap
    world.note(`${this.name} wants what comes after ${after || 'now'}`);
    const renew = world.tokens ? () => this.renew() : undefined;
    this.source = new tab.SharedEventSource(`/sse${after && `?lastEventId=${after}`}`, { renew });
    this.source.onmessage = ({ lastEventId, data }) => (lastEventId ? this.receive('message', lastEventId) : this.hearTick(Number(data)));
    this.source.ongap = ({ lastEventId }) => this.receive('gap', lastEventId);
    this.source.onopen = () => world.note(`${this.name} is open`);
    this.source.onerror = ({ status }) => world.note(`${this.name} has an error ${status ?? ''}`);
    this.source.onstatechange = () => this.source.live && this.catchUp();
  }

  // renew asks the application for a token.
  renew() {
    const { world } = this;
    return new Promise((resolve, reject) => world.soon(() => world.soon(() => {
      const works = world.calm || world.random() < 0.8;
      world.disturb(`${this.name} ${works ? 'renews the token' : 'cannot renew the token'}`);
      if (works) world.expires = world.now + (world.calm ? 1e12 : world.between(5_000, 120_000));
      this.tab.run(() => (works ? resolve(true) : reject(new Error('no token'))));
    })));
  }

  // catchUp checks that a listener that is live for the first time has the newest message of each topic.
  catchUp() {
    this.world.note(`${this.name} is live at ${this.source.lastEventId}`);
    if (this.caughtUp) return;
    this.caughtUp = true;
    const { server } = this.world;
    const [, epoch, number] = /^e(\d+)-(\d+)$/.exec(this.source.lastEventId) ?? [];
    if (!['earliest', 'latest'].includes(this.after) || Number(epoch) !== server.epoch || this.got.has('gap') || server.forgot(this.source.lastEventId)) return;
    const missing = server.latest().filter((n) => n <= number && !this.got.has(server.id(n)));
    if (missing.length > 0) this.world.fail(`${this.name} is live without ${missing}`);
  }

  receive(kind, id) {
    const { world, last } = this;
    const { server } = world;
    world.note(`${this.name} gets the ${kind} ${id}`);
    const [, epoch, number] = /^e(\d+)-(\d+)$/.exec(id).map(Number);
    const [, lastEpoch, lastNumber] = /^e(\d+)-(\d+)$/.exec(last)?.map(Number) ?? [];
    const goesBack = kind === 'gap' && server.lost.length > 0; // a backup was put back, and it may not have the id of a position after last
    if (epoch === lastEpoch && number <= lastNumber && !goesBack) world.fail(`${this.name} gets ${id} after ${last}`);
    this.last = id;
    this.got.add(kind === 'gap' ? 'gap' : id);
    if (kind === 'gap' || server.forgot(id)) return;
    let lost = [];
    if (last && (epoch !== lastEpoch || server.forgot(last))) world.fail(`${this.name} gets no gap between ${last} and ${id}`);
    else if (last && (this.caughtUp || this.after !== 'latest')) lost = server.published[epoch].filter((n) => n > lastNumber && n < number);
    else if (!last && this.after === 'earliest' && epoch === server.epoch) lost = server.kept.filter((n) => n < number);
    if (lost.length > 0) world.fail(`${this.name} gets ${id} without ${lost} before it`);
  }

  hearTick(tick) {
    if (tick < this.tick) this.world.fail(`${this.name} gets the tick ${tick} after ${this.tick}`);
    this.tick = tick;
  }
}

async function play(seed) {
  const world = new World(seed);
  const { server } = world;
  const most = world.pick([3, 8, 20]);
  const alive = () => world.tabs.filter((tab) => tab.alive);
  const some = (f) => {
    const tab = world.pick(alive().filter(({ stuck }) => !stuck));
    if (tab) f(tab);
  };
  const within = (ms, f) => world.after(world.between(0, ms), f);
  const many = (n, ms, f) => {
    for (let times = world.between(2, n); times > 0; times--) within(ms, f);
  };
  const listeners = () => alive().flatMap((tab) => tab.listeners);
  const beginning = () => world.pick(['', '', '', 'earliest', 'latest', 'e0-7', 'e0-9', server.id(world.between(...server.runs.at(-1))), ...listeners().map(({ source }) => source.lastEventId)]);
  const open = () => alive().length < most && new Tab(world, beginning());
  const comments = () => {
    server.send(':\n\n');
    world.after(15_000, comments);
  };
  const acts = [
    open,
    () => many(most, world.pick([0, 300, 3_000]), open),
    () => server.publish(),
    () => {
      world.note('other topics get messages');
      server.give(world.between(1, 100));
    },
    () => many(30, 2_000, () => server.publish()),
    () => server.send(`data:${++server.ticks}\n\n`),
    () => world.random() < 0.1 && server.publish({ end: true }),
    () => {
      const disk = world.random() < 0.5;
      world.disturb(`the server restarts, ${disk ? 'with' : 'without'} its messages`);
      server.restart(disk);
    },
    () => {
      world.note('the server is backed up');
      server.backUp();
    },
    () => {
      if (!server.backup) return;
      world.disturb('the backup is put back');
      server.putBack();
    },
    () => {
      world.disturb('the server goes');
      server.up = false;
      server.cut();
      within(20_000, () => {
        world.note('the server is back');
        server.up = true;
      });
    },
    () => {
      world.disturb('all streams are cut');
      server.cut();
    },
    () => {
      world.disturb('all streams die without a word');
      for (const stream of server.streams) stream.dead = true;
    },
    () => some((tab) => {
      world.disturb(`${tab.name} crashes`);
      tab.vanish();
    }),
    () => some((tab) => {
      world.disturb(`${tab.name} closes`);
      tab.listeners.forEach(({ source }) => source.close());
      tab.vanish();
    }),
    () => some((tab) => {
      const [target, leave, comeBack] = world.pick([[tab.window, 'pagehide', 'pageshow'], [tab.document, 'freeze', 'resume']]);
      world.disturb(`${tab.name} is away (${leave})`, 2);
      target.dispatchEvent(new Event(leave));
      within(20_000, () => {
        world.note(`${tab.name} is back (${comeBack})`);
        tab.run(() => target.dispatchEvent(new Event(comeBack)));
      });
    }),
    () => some((tab) => {
      world.disturb(`${tab.name} is stuck`, 2);
      tab.stuck = true;
      within(30_000, () => {
        world.note(`${tab.name} goes on`);
        tab.goOn();
      });
    }),
    () => some((tab) => {
      world.disturb(`${tab.name} is ${tab.document.hidden ? 'looked at' : 'hidden'}`);
      tab.look(!tab.document.hidden);
    }),
    () => some((tab) => {
      world.disturb(`${tab.name} reconnects`);
      tab.listeners[0]?.source.reconnect();
    }),
    () => some((tab) => tab.listeners.length < 5 && tab.mount(beginning())),
    () => some((tab) => {
      world.disturb(`a component of ${tab.name} is mounted again`);
      const listener = world.pick(tab.listeners);
      if (!listener) return;
      tab.unmount(listener);
      world.after(world.pick([0, 500, 3_000]), () => tab.run(() => tab.mount(beginning())));
    }),
  ].filter(() => world.random() < 0.7);

  comments();
  open();
  for (let n = world.between(5, 60); n > 0; n--) {
    world.pick(acts)?.();
    await world.pass(world.pick([0, 1, 10, 100, 1_000, 10_000]));
  }
  world.note('all is left alone');
  world.calm = true;
  await world.pass(31_000);
  alive().forEach((tab) => tab.look(false));
  await world.pass(200_000);
  const { opened, parts } = server;
  server.publish();
  await world.pass(100_000);

  if (server.opened > opened) world.fail(`${server.opened - opened} streams were opened while nothing happened`);
  if (server.parts > parts) world.fail(`${server.parts - parts} finite requests were made while nothing happened`);
  const ended = ({ source, after }) => source.readyState === 2 && (server.ends.has(source.lastEventId) || after === '');
  const lasting = listeners().filter((listener) => !ended(listener));
  for (const { name, source, last } of lasting) {
    const latest = server.published[server.epoch].at(-1);
    if (source.readyState !== 1) world.fail(`${name} has readyState ${source.readyState}`);
    else if (!source.live) world.fail(`${name} is not live`);
    else if (latest && last !== server.id(latest)) world.fail(`${name} has ${last || 'nothing'} as its last message`);
  }
  const shared = world.locks === 'granted';
  const pages = new Set(lasting.map(({ tab }) => tab)).size;
  const streams = shared ? Math.min(1, pages) : pages; // each tab has its own if they share none
  if (server.streams.size !== streams) world.fail(`${server.streams.size} streams are open, not ${streams}`);
  if (shared && opened > 2 * world.disturbances) world.fail(`${opened} streams were opened after ${world.disturbances} disturbances`);
  return world;
}

let [opened, parts, disturbances] = [0, 0, 0];
for (let n = seed; n < seed + runs; n++) {
  const world = await play(n);
  if (world.failures.length > 0) {
    console.log(`${world.happened.join('\n')}\nthe seed was ${n}`);
    process.exit(1);
  }
  opened += world.server.opened;
  parts += world.server.parts;
  disturbances += world.disturbances;
}
console.log(`${runs} runs opened ${opened} streams and made ${parts} finite requests after ${disturbances} disturbances`);
