// createReader puts together what one listener of a shared stream gets: each event once, in order, and none missing.
// What it takes and calls, and how: docs/browser.md#inside.
export function createReader({ lastId, open, onevent, onjoin, onend }) {
  let following = false;
  let from; // what came by after this id is in gathered
  let gathered = [];
  let part; // the connection that fetches what is missing
  let known = false; // the server has lastId, which one with a backup put back may not
  let begun; // the id of the position from which this reader began
  let tick; // the latest event of this server without an id
  let ahead; // the lastId with which this reader joined a stream that was not there yet
  let sparse = false; // messages before lastId may be missing
  let reopened = false; // the stream begins with the latest tick again

  function accept(event) {
    const { type, id, ours } = event;
    sparse = event.sparse;
    if (event.isPosition) {
      // A server with a backup put back may give lower numbers than those that it no longer knows: the gap comes next.
      const isReset = event.unknown && isSeen(id, lastId);
      if (isReset) begun = id;
      // A stream that begins with kept messages is at its position only when they have come.
      else if (event.live && !isSeen(id, lastId)) begun = lastId = id;
      return onevent({ ...event, id: isReset ? id : lastId, lastEventId: lastId });
    }
    if (ours && !id) {
      const repeated = reopened && event.data === tick?.data;
      [tick, reopened] = [event, false];
      if (repeated) return;
    } else {
      // A stream after an unknown id begins with a gap, whose id is that of the beginning.
      if (ours && isSeen(id, lastId) && !(type === 'gap' && id === begun)) return;
      [begun, lastId] = [undefined, event.lastEventId];
    }
    onevent(event);
  }
  function join() {
    const events = gathered;
    part?.close();
    ahead = from && from !== lastId ? lastId : undefined;
    [following, part, from, gathered, sparse] = [true, undefined, undefined, [], false];
    events.forEach(accept);
    onjoin();
  }
  // seek looks whether what this reader has reaches the stream.
  function seek(isOpen) {
    if (following || from === undefined) return;
    if (from === lastId || (known && isSeen(from, lastId))) return join();
    if (!isOpen || !isId(from)) return; // it may still begin early enough
    const take = (event) => {
      if (event.id) accept(event);
      known = !event.isPosition || event.live;
      seek();
    };
    part ??= open({ lastId, finite: true, wasOpen: true, onevent: take, onlost: (lost) => lost.final && onend(lost) });
  }
  return {
    get lastId() { return lastId; },
    get knownId() { return sparse ? undefined : lastId; },
    get following() { return following; }, // the stream
    get seeking() { return part !== undefined; }, // its own part
    get tick() { return tick; },

    meet(id, { readyState, live }, latest) {
      if (!following && !lastId && live) lastId = id;
      if (lastId === id || (lastId && !isId(from))) from = id;
      seek(readyState !== 0);
      if (following && latest && !tick) accept(latest);
    },
    hear(event) {
      if (following && event.first && ahead === lastId) this.lose(); // the server may not know lastId any more
      if (!following && !lastId && event.live) join();
      if (following || (lastId && event.ours && !event.id)) return accept(event);
      if (!lastId || event.sparse) return;
      const isNew = event.unknown || !isId(from) || epochOf(event.id || from) !== epochOf(from) || gathered.length === 10_000;
      if (isNew) [from, gathered] = [event.id || event.lastEventId, []]; // the part will reach it
      else if (!event.isPosition) gathered.push(event);
      seek(true);
    },
    lead() {
      gathered = [];
      join();
    },
    reopen: () => void (reopened = true),
    lose: () => void ([following, from, gathered, reopened, known] = [false, undefined, [], true, false]),
    close() {
      this.lose();
      part = part?.close();
    },
  };
}

const isId = (id) => Boolean(id) && id !== 'earliest' && id !== 'latest';
const epochOf = (id) => /^(.*-)\d+$/.exec(id)?.[1];

// isSeen tells whether a listener that has all up to "last" has the message with this id. Another epoch is never trusted.
function isSeen(id, last) {
  const epoch = epochOf(id);
  return epoch !== undefined && epoch === epochOf(last) && Number(id.slice(epoch.length)) <= Number(last.slice(epoch.length));
}
