// Package hub keeps the subscribers of each topic, and tells them when there is something for them.
//
// A subscriber is a cursor: a set of topics, and the number up to which it has everything. It has no queue. What comes
// next for it is read from the history, in the same way whether the client was away for an hour or is up to date. The
// hub wakes it when a message was kept that it follows; it reads, writes, and waits again.
//
// Three things make that fast for tens of thousands of subscribers:
//
//   - Those that follow one pattern and nothing else read from its page: the newest frames in one piece, which all of
//     them share, and which they find without a lock. See page.go.
//   - They are woken in portions. Otherwise thousands of them would write, one after the other, before anything else
//     in the process gets its turn. See wake.go.
//   - A subscriber that waits has not been deep in the stack: 2 KB are enough for its goroutine, and stay enough.
//
// There are two kinds of event. A tick is worth nothing once there is a newer one; it has no id, and only subscribers of
// the default topic alone get it. A message has an id, whose number a log has given it, and is kept for a while.
package hub

import (
	"sync"
	"sync/atomic"
	"time"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
)

// Options are what a hub keeps and when it sends.
type Options struct {
	history.Limits
	Ahead     uint64        // how far an id may be above the last number, because another replica may be ahead; 0 without replicas
	Keepalive time.Duration // after which a silent stream gets a comment, or up to a fifteenth later; 0 is 15 s
}

const (
	keepalive = 15 * time.Second

	// pace is the least time between two writes of messages of one pattern. A write to each client costs far more than
	// a few more messages in that write. A message after a pause goes out at once.
	pace = 40 * time.Millisecond
)

// Hub delivers messages and ticks to its subscribers. Its methods may be called from any number of goroutines, except
// that a log must call Append from one at a time, and no other of its methods during Begin and Restore.
type Hub struct {
	options   Options
	started   time.Time
	delivered atomic.Uint64
	gaps      atomic.Uint64 // that subscribers were told of
	stop      chan struct{} // closed by Close
	stopped   chan struct{} // closed when run has returned
	called    chan struct{} // has a value when there are calls
	pacer     *time.Timer   // fires when the waiting feeds are to be sent
	keeper    *time.Timer   // fires when silent streams are to be looked for

	mu          sync.RWMutex // guards the history, too
	history     *history.History
	epochs      int    // how often an epoch has begun
	seen        uint64 // numbers up to this one were given, as far as the log knows
	from        uint64 // what seen was when the epoch began
	tick        []byte // the latest one, for subscribers that come between two ticks
	ticks       uint32 // how many there were
	published   uint64
	closed      bool
	feeds       map[event.Pattern]*feed // of all patterns that are followed
	subscribers int
	waiting     []*feed       // have messages that wait for their pace
	flushed     time.Duration // when the waiting ones were last sent
	soon        []call        // subscribers to be woken by unlock
	calls       []call        // subscribers to be woken by run
	source      Source        // nil if the log hands over every message
	answers     bool          // a feed that is held is released within a moment, as far as the hub knows
	released    chan struct{} // closed when feeds are released
}

// New returns a hub. Close ends it.
func New(options Options) *Hub {
	if options.Keepalive == 0 {
		options.Keepalive = keepalive
	}
	h := &Hub{
		options:  options,
		started:  time.Now(),
		stop:     make(chan struct{}),
		stopped:  make(chan struct{}),
		called:   make(chan struct{}, 1),
		pacer:    time.NewTimer(time.Hour),
		keeper:   time.NewTimer(options.Keepalive),
		feeds:    map[event.Pattern]*feed{},
		released: make(chan struct{}),
	}
	h.pacer.Stop()
	h.history = history.New(options.Limits, func(topic string) bool { return h.feeds[event.Pattern(topic)] != nil })
	go h.run()
	return h
}

// Begin begins an epoch. It drops all that is kept, and ids of other epochs become unknown. The next message has a
// number above lost, and messages of any topic up to that number may be lost. Subscribers get a gap, except those that
// have waited for the first epoch; before it begins, subscribers get ticks alone.
//
// seen is the number of the last message from before the start of the log. That message may still have to be loaded.
// Subscribers that asked for no id get the messages after it.
func (h *Hub) Begin(epoch string, lost, seen uint64) {
	h.mu.Lock()
	defer h.unlock()
	h.history.Begin(epoch, lost)
	h.begun(seen)
}

// Restore begins an epoch with what a log kept from before a restart, see history.Restore. Subscribers get no gap for
// the restart.
func (h *Hub) Restore(restore func(*history.History)) {
	h.mu.Lock()
	defer h.unlock()
	restore(h.history)
	h.begun(h.history.Last())
}

// Changes returns what a log that was restored must note, see history.Changes.
func (h *Hub) Changes() history.Changes {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.history.Changes()
}

// begun makes all subscribers find their place in the new epoch.
func (h *Hub) begun(seen uint64) {
	h.epochs++
	h.seen, h.from = seen, seen
	for pattern, f := range h.feeds {
		f.held = h.source != nil && !h.source.Complete(pattern)
		h.turn(f)
	}
}

// Append keeps a message and sends it to all subscribers of its topic, at once or within 40 ms of the message before. A
// message whose number is not above the last one is ignored. The error is event.ErrClosed. Append waits for no subscriber.
func (h *Hub) Append(m event.Message) error {
	frame := m.Frame(h.ID(m.Number)) // the epoch cannot change until Append returns
	h.mu.Lock()
	defer h.unlock()
	if h.closed {
		return event.ErrClosed
	}
	if m.Number > h.history.Last() {
		h.history.Add(m, frame)
		h.send(m, frame)
	}
	return nil
}

// send puts a message on the pages of its topic, and wakes its subscribers unless they have to wait.
func (h *Hub) send(m event.Message, frame []byte) {
	if frame != nil {
		h.published++
	}
	if f := h.feeds[event.Pattern(m.Topic)]; f != nil {
		h.feed(f, m, frame)
	}
	for pattern := range event.Wildcards(m.Topic) {
		if f := h.feeds[pattern]; f != nil {
			h.feed(f, m, frame)
		}
	}
}

// feed puts a message on the page of one feed.
func (h *Hub) feed(f *feed, m event.Message, frame []byte) {
	if f.held { // its subscribers will read the history
		return
	}
	if m.Number <= h.seen { // some subscribers come after it, so all of them read the history
		h.turn(f)
		return
	}
	if f.hasPage() {
		if f.crowd.isFull(frame) && !m.Replace {
			h.call(f)
		}
		switch {
		case m.Replace: // a subscriber that has not read what is replaced must not read it any more
			f.crowd.skip()
		case frame != nil:
			f.crowd.add(frame, 1, m.Number)
		}
		f.crowd.next.over = m.End
	}
	switch now := h.now(); {
	case m.End, !f.waiting && now >= f.due:
		h.call(f)
	case f.waiting:
	default:
		if len(h.waiting) == 0 {
			h.pacer.Reset(max(f.due, h.flushed+pace) - now)
		}
		f.waiting = true
		h.waiting = append(h.waiting, f)
	}
}

// flush sends the messages that wait for their pace.
func (h *Hub) flush() {
	h.mu.Lock()
	defer h.unlock()
	h.flushed = h.now()
	for i, f := range h.waiting {
		f.waiting = false
		h.call(f)
		h.waiting[i] = nil
	}
	h.waiting = h.waiting[:0]
}

// Tick sends an event to the subscribers of the default topic. The event has no id and is not kept, except that a new
// subscriber gets the latest one at once. The data is sent as JSON. The error is about data that cannot be JSON, or
// event.ErrClosed. Tick waits for no subscriber.
func (h *Hub) Tick(data any) error {
	frame, err := event.Tick(data)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.unlock()
	if h.closed {
		return event.ErrClosed
	}
	h.tick = frame
	h.ticks++
	if f := h.feeds[""]; f != nil && f.hasPage() {
		f.crowd.next.ticks = h.ticks
		h.interject(f, frame, 1)
	}
	return nil
}

// interject sends a frame that is no message, after the messages that wait.
func (h *Hub) interject(f *feed, frame []byte, events uint32) {
	if f.crowd.isFull(frame) {
		h.call(f)
	}
	f.crowd.add(frame, events, 0)
	due := f.due
	h.call(f)
	f.due = due // it delays no message
}

// comment sends a comment on the streams that were silent for too long. It locks the hub for a moment at a time.
func (h *Hub) comment() {
	h.mu.Lock()
	defer h.unlock()
	seen := 0
	see := func() {
		if seen++; seen%portion == 0 {
			h.unlock()
			h.mu.Lock()
		}
	}
	for _, f := range h.feeds {
		if f.hasPage() && f.crowd.spoke+h.options.Keepalive <= h.now() {
			h.interject(f, []byte(event.Comment), 0)
		}
		see()
		for i := 0; i < len(f.several); i++ {
			m := f.several[i]
			if m.pattern == 0 && m.s.several.silentSince()+h.options.Keepalive <= h.now() { // once for each subscriber
				m.s.several.rouse()
			}
			see()
		}
	}
}

// Ended reports whether a topic has ended. Topics that have been quiet for long may be forgotten, and their ends with
// them.
func (h *Hub) Ended(topic string) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.history.Ended(topic)
}

// ID returns the id of the message with that number.
func (h *Hub) ID(number uint64) string {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.history.ID(number)
}

// highest returns the highest number that the hub knows of.
func (h *Hub) highest() uint64 { return max(h.history.Last(), h.seen) }

func (h *Hub) now() time.Duration { return time.Since(h.started) }

// Close ends every subscription: each subscriber gets what was sent before, then event.ErrClosed. Calling it again does
// nothing.
func (h *Hub) Close() {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		for _, f := range h.feeds {
			if f.crowd != nil {
				f.crowd.next.over = true
			}
			h.call(f)
		}
		close(h.stop)
		close(h.released)
	}
	h.unlock()
	<-h.stopped
}
