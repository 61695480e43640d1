// createParser returns a function that takes the text of an event stream, in pieces of any size, as
// https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream says.
//
//   lastId          the id of the last event of the connection before, if there was one
//   onevent(event)  { type, data, id }; id is empty unless the event has one of its own
//   onid(id)        the id to resume from has changed
//   onretry(ms)     how long to wait before the next connection
export function createParser({ lastId = '', onevent, onid, onretry }) {
  let rest = ''; // a line that has not ended yet
  let afterReturn = false; // a line feed that comes next belongs to the carriage return before it
  let data = [];
  let type = '';
  let id = lastId;
  let ownId = false;

  function read(line) {
    if (line === '') return dispatch();
    const colon = line.indexOf(':');
    if (colon === 0) return; // a comment
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') data.push(value);
    else if (field === 'event') type = value;
    else if (field === 'id' && !value.includes('\0')) [id, ownId] = [value, true];
    else if (field === 'retry' && /^[0-9]+$/.test(value)) onretry(Number(value));
  }

  function dispatch() {
    if (data.length) onevent({ type: type || 'message', data: data.join('\n'), id: ownId ? id : '' });
    if (id !== lastId) onid((lastId = id));
    [data, type, ownId] = [[], '', false];
  }

  return (text) => {
    if (!text) return;
    const piece = afterReturn && text[0] === '\n' ? text.slice(1) : text;
    afterReturn = text.endsWith('\r');
    const lines = (rest + piece).split(/\r\n|\n|\r/);
    rest = lines.pop();
    lines.forEach(read);
  };
}
