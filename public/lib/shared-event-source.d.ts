export interface SharedEventSourceInit extends EventSourceInit {
  headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>);
  renew?: () => boolean | Promise<boolean>;
  shareKey?: string; signal?: AbortSignal; fetch?: typeof fetch;
}
export type SharedMessageEvent<T = any> = MessageEvent<T> & { readonly topic?: string; readonly time?: Date; readonly name?: string };
export type SharedErrorEvent = Event & { readonly status?: number; readonly message?: string; readonly cause?: unknown };
interface EventMap { open: Event; message: SharedMessageEvent; error: SharedErrorEvent; gap: SharedMessageEvent; '*': SharedMessageEvent; statechange: Event }
export interface SharedEventSource extends EventSource {
  readonly live: boolean; readonly lostAt: number | undefined; readonly lastEventId: string;
  onmessage: ((event: SharedMessageEvent) => any) | null; ongap: ((event: SharedMessageEvent) => any) | null;
  onerror: ((event: SharedErrorEvent) => any) | null; onstatechange: ((event: Event) => any) | null;
  reconnect(): void;
  addEventListener<K extends keyof EventMap>(type: K, listener: (event: EventMap[K]) => any, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: ((event: SharedMessageEvent) => any) | EventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
}
export declare const SharedEventSource: {
  new (url: string | URL, init?: SharedEventSourceInit): SharedEventSource; readonly prototype: SharedEventSource;
  readonly CONNECTING: 0; readonly OPEN: 1; readonly CLOSED: 2;
};
