import { SharedEventSource } from '/lib/shared-event-source.js';
import { run } from '/standard.mjs';

onmessage = async () => postMessage(await run(SharedEventSource));
