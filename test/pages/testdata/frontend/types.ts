import { SharedEventSource } from './lib/shared-event-source.js';

const source = new SharedEventSource('/sse', {
  headers: async () => ({ Authorization: 'Bearer x' }),
  renew: async () => true,
  shareKey: 'alice',
  signal: new AbortController().signal,
  fetch,
});
export const plain: EventSource = source;
export const OwnEventSource: { new (url: string | URL, init?: EventSourceInit): EventSource; readonly OPEN: 1 } = SharedEventSource;
source.onmessage = ({ data, topic, time }) => console.log(data, topic?.length, time?.getTime());
source.onerror = ({ status, message }) => console.log(status, message);
source.onstatechange = () => console.log(source.live, source.lastEventId.length);
source.addEventListener('shipped', ({ data, topic }) => console.log(data, topic));
source.addEventListener('error', ({ status, cause }) => console.log(status, cause));
source.addEventListener('message', { handleEvent() {} });
source.removeEventListener('shipped', () => {});
// @ts-expect-error
source.readyState = 1;
// @ts-expect-error
source.onmessage = 5;
// @ts-expect-error
new SharedEventSource('/sse', { headers: 5 });
