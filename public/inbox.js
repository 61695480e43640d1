const remembered = 5_000; // ids, to know a message again that comes twice
const kept = 100; // events, for a tab that is opened later

// createInbox returns what this tab has received. Each event that is new to it goes to onevent.
export function createInbox(onevent) {
  let lastId = '';
  let lastTick;
  let seen = new Set(); // ids are opaque: they tell same from other, not before from after
  let recent = [];

  function isNew(event) {
    switch (event.type) {
      case 'message':
        lastId = event.id;
        if (seen.has(lastId)) return false;
        seen.add(lastId);
        if (seen.size > remembered) seen.delete(seen.values().next().value);
        return true;
      case 'tick': {
        // A new connection begins with the latest tick, which another may have brought before.
        const again = event.first && event.data === lastTick;
        lastTick = event.data;
        return !again;
      }
      case 'position': // to go on from, for who has read no message yet
        lastId ||= event.id;
        return false;
      case 'gap': // concerns who has read as far as the tab that asked, and no further
        if (event.after !== lastId) return false;
        lastId = event.id;
        // Whether any is missing at all is unknown after a restart: no news where none ever came.
        return seen.size > 0 || JSON.parse(event.data).missed !== null;
    }
  }

  function receive(event) {
    if (!isNew(event)) return;
    recent.push(event);
    if (recent.length > kept) recent.shift();
    onevent(event);
  }

  return {
    receive,
    lastId: () => lastId,

    // A new tab starts with a copy of what another one has.
    copy: () => ({ lastId, lastTick, seen, recent }),
    start(copy) {
      ({ lastId, lastTick, seen } = copy);
      recent = copy.recent;
      recent.forEach(onevent);
    },
  };
}
