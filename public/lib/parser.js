// createParser returns a function that takes the text of an event stream, in pieces of any size, as
// https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream says. It calls onid(id) when
// the id to resume from has changed, onretry(ms), and onevent({ type, data, id, lastEventId, topic, time }). The id is
// empty unless the event has one of its own; lastEventId is then that of an event before it.
export function createParser({ lastId = '', onevent, onid, onretry }) {
  let rest = ''; // a line that has not ended yet
  let afterReturn = false; // a line feed that comes next belongs to the carriage return before it
  let id = lastId;
  let [ownId, data, type, topic, time] = [false, [], '', '', undefined]; // of the event that is being read

  function read(line) {
    if (line === '') return dispatch();
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon); // empty in a comment
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') data.push(value);
    else if (field === 'event') type = value;
    else if (field === 'id' && !value.includes('\0')) [id, ownId] = [value, true];
    else if (field === 'topic') topic = value;
    else if (field === 'time' && /^[0-9]+$/.test(value)) time = Number(value);
    else if (field === 'retry' && /^[0-9]+$/.test(value)) onretry(Number(value));
  }
  function dispatch() {
    if (data.length) onevent({ type: type || 'message', data: data.join('\n'), id: ownId ? id : '', lastEventId: id, topic, time });
    if (id !== lastId) onid((lastId = id));
    [ownId, data, type, topic, time] = [false, [], '', '', undefined];
  }
  return (text) => {
    if (!text) return;
    const piece = afterReturn && text[0] === '\n' ? text.slice(1) : text;
    afterReturn = text.endsWith('\r');
    const lines = piece.split(/\r\n|\n|\r/);
    lines[0] = rest + lines[0]; // not split again: a long line would cost the square of its length
    rest = lines.pop();
    lines.forEach(read);
  };
}
