import { share } from './tabs.js';

const linger = 1_000; // ms: a component that is mounted again finds its connection
const streams = new Map(); // of this page, by what they ask for

// enter adds a listener, { hear(event), tell() }, to the stream of this page that asks for the same, whatever the browser
// lacks. renew may be that of any listener; connect(options) opens a connection, see connection.js; name and lastId are
// for tabs.js. It returns { shared, open, state, leave }.
export function enter(listener, { key, name, lastId, connect, renew }) {
  const stream = streams.get(key) ?? { listeners: new Set(), state: { readyState: 0 } };
  const { listeners } = stream;
  streams.set(key, stream);
  clearTimeout(stream.ending);
  listeners.add(listener);
  stream.renew = renew;
  stream.open ??= (options) => connect({ ...options, renew: renew && (() => stream.renew()) });
  stream.shared ??= share({
    name,
    lastId,
    open: stream.open,
    onevent: (event) => listeners.forEach(({ hear }) => hear(event)),
    onstate(state) {
      stream.state = state;
      if (state.readyState === 2) streams.delete(key);
      listeners.forEach(({ tell }) => tell());
    },
  });
  stream.leave ??= (gone) => {
    if (!listeners.delete(gone) || listeners.size > 0) return;
    stream.ending = setTimeout(() => {
      stream.shared.close();
      if (streams.get(key) === stream) streams.delete(key);
    }, linger);
  };
  return stream;
}
