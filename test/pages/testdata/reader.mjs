// A worker of any kind that reads a stream and passes on what it hears.

import { SharedEventSource } from '/lib/shared-event-source.js';

function begin(to) {
  const source = new SharedEventSource('sse'); // relative to this file
  source.onopen = () => to.postMessage({ state: 'open' });
  source.onerror = ({ status }) => to.postMessage({ state: `error ${status}` });
  source.onmessage = ({ data }) => to.postMessage({ data });
}

if ('clients' in self) self.onmessage = ({ source }) => begin(source);
else if ('onconnect' in self) self.onconnect = ({ ports: [port] }) => begin(port);
else begin(self);
