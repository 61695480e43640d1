// Prints what the npm package eventsource makes of a stream.
import { EventSource } from 'eventsource';

const stream = new EventSource(process.argv[2]);
stream.onopen = () => console.log('open');
stream.onmessage = ({ lastEventId, data }) => console.log('message', lastEventId, data);
stream.addEventListener('gap', ({ lastEventId, data }) => console.log('gap', lastEventId, data));
