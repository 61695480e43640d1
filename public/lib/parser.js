// createParser returns a function that takes the text of an event stream, in pieces of any size, as
// https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream says. It calls onid(id) when
// the id to resume from has changed, onretry(ms), and onevent({ type, data, id, lastEventId, topic, time }). The id is
// empty unless the event has one of its own; lastEventId is then that of an event before it.
export function createParser({ lastId = '', onevent, onid, onretry }) {
  let rest = ''; // a line that has not ended yet
  let afterReturn = false; // a line feed that comes next belongs to the carriage return before it
  let id = lastId;
  let [own, data] = [{}, []]; // fields of the event that is being read

  function read(line) {
    if (line === '') return dispatch();
    const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?/s.exec(line); // a comment has an empty field
    const isNumber = /^[0-9]+$/.test(value);
    if (field === 'data') data.push(value);
    else if (field === 'id' && !value.includes('\0')) id = own.id = value;
    else if (field === 'event') own.type = value;
    else if (field === 'topic') own.topic = value;
    else if (field === 'time' && isNumber) own.time = Number(value);
    else if (field === 'retry' && isNumber) onretry(Number(value));
  }
  function dispatch() {
    const { type, topic = '', time } = own;
    if (data.length) onevent({ type: type || 'message', data: data.join('\n'), id: own.id ?? '', lastEventId: id, topic, time });
    if (id !== lastId) onid((lastId = id));
    [own, data] = [{}, []];
  }
  return (text) => {
    if (!text) return;
    const lines = text.slice(afterReturn && text[0] === '\n' ? 1 : 0).split(/\r\n|\n|\r/);
    afterReturn = text.endsWith('\r');
    lines[0] = rest + lines[0]; // not split again: a long line would cost the square of its length
    rest = lines.pop();
    lines.forEach(read);
  };
}
