const mostGathered = 10_000;

// createReader puts together what one listener of a shared stream gets: each event once, in order, and none missing.
//
// The stream may have begun too late for it, because the listener asks for older messages or was away. Then it gathers
// what comes by, fetches its own part in a finite request, and goes on with the stream where the two meet. So it never
// disturbs the stream, which others listen to as well. By the ids of this server (EPOCH-NUMBER) it knows what it has
// already. Of another server it knows an id only when it sees the same one again.
//
//   lastId                 where to begin: after this id, at "earliest" or "latest", or with what is new ("")
//   open(options)          opens a connection, see connection.js
//   onevent(event)         each event, and positions
//   onjoin()               from now on it follows the stream
//   onend(lost)            its own part is refused for good
export function createReader({ lastId, open, onevent, onjoin, onend }) {
  let following = false;
  let from; // what came by after this id is in gathered
  let gathered = [];
  let part; // the connection that fetches what is missing
  let begun; // the id of the position from which this reader began
  let tick; // the latest event of this server without an id
  let reopened = false; // the stream begins with the latest tick again

  function accept(event) {
    const { type, id, ours } = event;
    if (event.isPosition) {
      // A stream that begins with kept messages is at its position only when they have come.
      if (event.live && !(event.first && isId(lastId)) && !isSeen(id, lastId)) begun = lastId = id;
      return onevent({ ...event, id: lastId, lastEventId: lastId });
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
    [following, part, from, gathered] = [true, undefined, undefined, []];
    events.forEach(accept);
    onjoin();
  }

  // seek looks whether what this reader has reaches the stream.
  function seek(isOpen) {
    if (following || from === undefined) return;
    if (from === lastId || isSeen(from, lastId)) return join();
    if (!isOpen || !isId(from)) return; // it may still begin early enough
    part ??= open({
      lastId,
      finite: true,
      wasOpen: true,
      onevent(event) {
        if (event.id) accept(event);
        seek();
      },
      onlost: (lost) => lost.final && onend(lost),
    });
  }

  return {
    get lastId() { return lastId; },
    get following() { return following; },
    get seeking() { return part !== undefined; },
    get tick() { return tick; },

    // meet is told that the stream is at this id. A listener that wants only what is new begins there, once it is live.
    meet(id, { isOpen, live, tick: latest }) {
      if (!following && !lastId && isOpen && live) lastId = id;
      if (lastId === id || (lastId && !isId(from))) from = id;
      seek(isOpen);
      if (following && latest && !tick) accept(latest);
    },

    hear(event) {
      if (following) return accept(event);
      const { id, ours, live } = event;
      if (!lastId) {
        if (!live) return; // not yet
        join();
        return accept(event);
      }
      if (ours && !id) return accept(event);
      if (event.sparse) return;
      if (!isId(from) || epochOf(id || from) !== epochOf(from) || gathered.length === mostGathered) {
        [from, gathered] = [event.lastEventId, []]; // the part will reach it
      } else if (!event.isPosition) gathered.push(event);
      seek(true);
    },

    // lead is told that the stream begins where this reader is.
    lead() {
      gathered = [];
      join();
    },

    // reopen is told that the stream begins again after what this reader has.
    reopen() {
      reopened = true;
    },

    // lose is told that there is another stream now, or none.
    lose() {
      [following, from, gathered, reopened] = [false, undefined, [], true];
    },

    close() {
      this.lose();
      part?.close();
      part = undefined;
    },
  };
}

const isId = (id) => Boolean(id) && id !== 'earliest' && id !== 'latest';

// isSeen tells whether a listener whose last message has the id "last" already has the message with this id. An id of
// another epoch is never trusted.
function isSeen(id, last) {
  const epoch = epochOf(id);
  return epoch !== undefined && epoch === epochOf(last) && Number(id.slice(epoch.length)) <= Number(last.slice(epoch.length));
}

const epochOf = (id) => /^(.*-)\d+$/.exec(id)?.[1];
