// The tutorial's page: every event from the server becomes a line in #sse-data.
//
//   stream.js  new EventSource('/sse') and its onmessage, and how it comes back after an interruption
//   tabs.js    one EventSource for all tabs of this browser
//   inbox.js   what this tab has received, each message once
//   lines.js   #sse-data
//   status.js  how the connection is

import { createInbox } from './inbox.js';
import { showLine } from './lines.js';
import { showStatus } from './status.js';
import { openStream } from './stream.js';
import { shareStream } from './tabs.js';

shareStream({ open: openStream, inbox: createInbox(showLine), onstate: showStatus });
