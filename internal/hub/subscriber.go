package hub

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
)

const (
	// Earliest is what a subscriber names instead of an id to get everything that is kept, and Latest to get the newest
	// message of each of its topics.
	Earliest = "earliest"
	Latest   = "latest"

	// unknown is an id of no epoch.
	unknown = "-"

	maxID = 64 // bytes

	// patience is how long a subscriber waits for this replica to get as far as another one. When NATS loses the leader
	// of the stream, one replica may take more than 5 s longer than another one to go on. Without patience, a subscriber
	// would be told of a gap although nothing is lost, and get all that is kept once more.
	patience = 30 * time.Second
)

// Subscriber is one client's position in what is sent. It belongs to one goroutine, which must close it. Others may read its
// topics and how much it received.
type Subscriber struct {
	history.Cursor
	hub     *Hub
	arrival *arrival // nil once it has arrived
	crowd   *crowd   // of its pattern, if it has only one
	several *several // otherwise
	at      position // on the page of the crowd
	index   int      // how many had joined the crowd before, which says at which of its doors to wait
	epochs  int32    // Hub.epochs when the cursor was set
	ticks   uint32   // Hub.ticks when it got the latest one
	once    bool     // it ends when it has caught up
	resting bool     // it has everything, or must not have it yet: it waits until it is woken

	received atomic.Uint64 // events that were handed to it; read by others than its goroutine
}

// several is what a subscriber to several patterns has of its own.
type several struct {
	wake   chan struct{} // has a value when there may be something to read
	active atomic.Int64  // when it was last handed something: nanoseconds since Hub.started
	slots  []int32       // for each pattern, its place in feed.several
}

func (s *several) rouse() {
	select {
	case s.wake <- struct{}{}:
	default: // it has a value
	}
}

func (s *several) silentSince() time.Duration { return time.Duration(s.active.Load()) }

// arrival is what a subscriber needs until it goes on like all others.
type arrival struct {
	after   string    // the id that the client asked for
	early   bool      // it came before the first epoch
	expires int64     // when the stream will end, in seconds since 1970, or 0
	behind  bool      // it has to be told when it has caught up
	head    []byte    // comes before anything else
	heads   int       // events in it
	ahead   time.Time // if the cursor is above the highest number: until when to wait for that one
}

// Subscribe returns a subscriber that gets all that is sent to these topics from now on, until it is closed. If after
// is the id of the last message that it saw, it first gets every message since; if it is Earliest, every message that
// is kept; if it is Latest, the newest message of each topic.
//
// The stream begins with an event called position, whose id is where the stream begins, and which says whether messages
// that are kept follow. After the last of them, a second position says that it is live. If ctx has a deadline, both say
// when that is. If messages that the subscriber should have had are lost, an event called gap is in the place of the last
// one. After an id of another epoch, the gap comes first, then everything that is kept.
//
// If a log hands over messages on demand, Subscribe waits up to 2 s, or until ctx ends, for those of these topics.
//
// The error is event.ErrEnded if all of these topics have ended and nothing came after that id. From a closed hub the
// subscriber gets what it missed, then event.ErrClosed.
func (h *Hub) Subscribe(ctx context.Context, topics event.Topics, after string) (*Subscriber, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.newSubscriber(ctx, topics, after)
	if waits := h.epochs == 0 || after != "" && h.isHeld(s); waits {
		s.arrival.head, s.arrival.early = append(s.arrival.head, '\n'), h.epochs == 0 // read will find its place
		s.rest()
	} else {
		s.place()
		resumes := after != "" && after != Earliest && after != Latest
		switch ended := h.history.AllEnded(topics); {
		case ended && resumes && !s.arrival.behind:
			h.leave(s)
			return nil, event.ErrEnded
		case !ended && !s.arrival.behind:
			s.rest()
		}
	}
	if (topics == event.Topics{}) && len(h.tick) > 0 {
		s.ticks = h.ticks
		s.arrival.head = append(s.arrival.head, h.tick...)
		s.arrival.heads++
	}
	return s, nil
}

// Fetch is Subscribe for a subscriber that gets what is kept, after that id or all of it, and then event.ErrEnded from
// Next. Its last event is the position that says that it is live, unless it was cut off. It gets no ticks. The error is
// ErrLoading if the log hands over messages on demand, and does not in time.
func (h *Hub) Fetch(ctx context.Context, topics event.Topics, after string) (*Subscriber, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.newSubscriber(ctx, topics, cmp.Or(after, Earliest))
	s.once = true
	if h.epochs == 0 || h.isHeld(s) {
		h.leave(s)
		return nil, ErrLoading
	}
	s.place()
	return s, nil
}

// ErrLoading says that messages are still to be loaded from a log.
var ErrLoading = errors.New("the messages are not loaded yet")

// newSubscriber returns a subscriber that is with its feeds, once its topics are loaded or have taken too long.
func (h *Hub) newSubscriber(ctx context.Context, topics event.Topics, after string) *Subscriber {
	if len(after) > maxID { // it is none of ours, and should not be kept while the topics are loaded
		after = unknown
	}
	s := &Subscriber{Cursor: history.Cursor{Topics: topics}, hub: h, arrival: &arrival{after: after, head: event.Retry()}}
	if deadline, has := ctx.Deadline(); has {
		s.arrival.expires = deadline.Unix()
	}
	h.join(s)
	h.await(ctx, s)
	return s
}

// hasMore reports whether there is anything to read.
func (h *Hub) hasMore(c history.Cursor) bool {
	_, events, more := h.history.Read(&c, 1) // there is no room for a message, so nothing is copied
	return events > 0 || more
}

// place sets where the subscriber goes on in this epoch, and what it gets first: the position, unless it has one of
// another epoch, and a gap if its id is unknown.
func (s *Subscriber) place() {
	h, a := s.hub, s.arrival
	a.ahead = time.Time{}
	number, known := event.Number(h.history.Epoch(), a.after)
	known = known && !h.history.IsInHole(number) && (number <= h.highest() || number-h.highest() <= h.options.Ahead)
	var gap []byte
	var to history.Cursor
	switch {
	case a.after == "" && a.early:
		to = h.history.After(s.Topics, h.from)
	case a.after == "" && !h.history.AllEnded(s.Topics):
		to = h.history.After(s.Topics, h.highest())
	case a.after == Latest:
		to = h.history.Latest(s.Topics)
	case known:
		to = h.history.After(s.Topics, number)
		if number > h.highest() {
			a.ahead = time.Now().Add(patience)
		}
	default:
		to = h.history.Earliest(s.Topics)
		if a.after != "" && a.after != Earliest {
			h.history.SkipLost(&to)
			gap = event.Gap(h.history.ID(to.Number))
			h.gaps.Add(1)
			a.heads++
		}
	}
	s.Move(to)
	if s.epochs == 0 {
		a.behind = gap != nil || !a.ahead.IsZero() || h.isHeld(s) || h.hasMore(s.Cursor)
		if s.once && !a.behind && !h.history.Misses(&s.Cursor) {
			s.Number = max(s.Number, h.history.Last()) // the next request need not look through what other topics had
		}
		a.head = append(a.head, event.Position{Live: !a.behind, Expires: a.expires}.Frame(h.history.ID(s.Number))...)
	}
	a.head = append(a.head, gap...)
	a.after, s.epochs = unknown, int32(h.epochs)
}

// rest makes the subscriber wait, unless the hub is closed: nothing wakes it then. The caller has the hub's lock.
func (s *Subscriber) rest() {
	if s.hub.closed {
		return
	}
	s.resting = true
	if s.crowd != nil {
		s.at = s.crowd.next.position
	}
}

// Next waits until there is something for this subscriber and returns as much of it as makes one write of at most
// 16 KiB, unless a single event is larger. The bytes are shared and must not be changed. The error is event.ErrClosed,
// or event.ErrEnded once all topics of the set have ended and everything was handed over, or the reason why ctx ended.
// What was sent before ctx was canceled is still handed over, but nothing is after its deadline.
func (s *Subscriber) Next(ctx context.Context) ([]byte, error) {
	for {
		if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			return nil, context.Cause(ctx)
		}
		data, events, wake := s.glance()
		if !s.resting {
			var err error
			if data, events, wake, err = s.read(); err != nil {
				return nil, err
			}
		}
		switch {
		case len(data) > 0:
			s.hub.delivered.Add(uint64(events))
			s.received.Store(s.received.Load() + uint64(events))
			return data, nil
		case wake == nil && ctx.Err() == nil:
			continue // there is more to look through
		case wake == nil:
			return nil, context.Cause(ctx)
		}
		if s.isAhead() && ctx.Err() == nil {
			s.lookAgain(ctx, wake)
			continue
		}
		select {
		case <-wake:
		case <-ctx.Done():
			select {
			case <-wake: // what was sent before a stop still goes out
			default:
				return nil, context.Cause(ctx)
			}
		}
		s.resting = s.crowd != nil
	}
}

// lookAgain waits for a subscriber that is ahead, at most for a second: what it waits for need not be of its topics.
func (s *Subscriber) lookAgain(ctx context.Context, wake <-chan struct{}) {
	select {
	case <-wake:
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	s.resting = false
}

// glance returns what there is for a subscriber that rests, or where to wait for it. It takes no lock and little stack.
// The subscriber no longer rests if it has to read the history.
func (s *Subscriber) glance() (data []byte, events int, wake <-chan struct{}) {
	switch {
	case !s.resting:
		return nil, 0, nil
	case s.arrival != nil && len(s.arrival.head) > 0:
		data, events = s.takeHead()
		return data, events, nil
	case s.several != nil:
		return nil, 0, s.several.wake
	}
	if s.isAhead() { // it may have messages of the page already
		s.resting = false
		return nil, 0, nil
	}
	p := s.crowd.page.Load()
	if data, events, s.resting = p.from(&s.at); s.resting {
		s.ticks = p.ticks
	}
	if len(data) > 0 {
		s.Number = max(s.Number, p.last)
	} else if p.over {
		s.resting = false
	}
	return data, events, p.doors[s.index%len(p.doors)]
}

// isAhead reports whether the subscriber waits for this replica to get as far as another one.
func (s *Subscriber) isAhead() bool { return s.arrival != nil && !s.arrival.ahead.IsZero() }

// takeHead returns what comes before anything else, once.
func (s *Subscriber) takeHead() (head []byte, heads int) {
	a := s.arrival
	head, heads = a.head, a.heads
	a.head, a.heads = nil, 0
	s.settle()
	return head, heads
}

// settle lets go of what the subscriber needed to arrive, once it has.
func (s *Subscriber) settle() {
	if s.epochs > 0 && !s.isAhead() && !s.arrival.behind {
		s.arrival = nil
	}
}

// read returns what the history has for the subscriber. If there is nothing more, the subscriber rests, and wake is where
// to wait.
func (s *Subscriber) read() (data []byte, events int, wake <-chan struct{}, err error) {
	h := s.hub
	h.mu.RLock()
	defer h.mu.RUnlock()
	waits := h.epochs == 0 || h.isHeld(s)
	if !waits {
		s.findPlace()
	}
	if s.arrival != nil {
		data, events = s.takeHead()
	}
	switch {
	case s.once && s.arrival == nil && len(data) == 0:
		return nil, 0, nil, event.ErrEnded
	case waits && s.once:
		return data, events, nil, ErrLoading // without the last position, what it has got is not complete
	case !waits && !(s.once && s.arrival == nil):
		more := s.hasPassed() && len(data) == 0
		if !more {
			told, head := s.Gaps, data
			var n int
			data, n, more = h.history.Read(&s.Cursor, history.MaxPiece-len(head))
			if events += n; len(head) > 0 {
				data = append(head, data...)
			}
			h.gaps.Add(s.Gaps - told)
		}
		if s.hasPassed() {
			data, more = s.tell(data, more)
		}
		if more {
			return data, events, nil, nil
		}
	}
	if s.once && s.arrival == nil { // it has caught up
		return data, events, nil, nil
	}
	ended := !waits && !s.isAhead() && h.history.AllEnded(s.Topics)
	switch {
	case len(data) > 0 && (h.closed || ended):
		return data, events, nil, nil // the error comes next
	case h.closed:
		return nil, 0, nil, event.ErrClosed
	case ended:
		return nil, 0, nil, event.ErrEnded
	case !s.once && s.ticks != h.ticks && s.Topics == event.Topics{} && len(data)+len(h.tick) <= history.MaxPiece:
		data, events, s.ticks = append(slices.Clip(data), h.tick...), events+1, h.ticks
	case len(data) == 0 && s.several != nil && s.several.silentSince()+h.options.Keepalive <= h.now():
		data = []byte(event.Comment)
	}
	s.rest()
	if s.several != nil {
		s.several.active.Store(int64(h.now()))
		return data, events, s.several.wake, nil
	}
	p := s.crowd.page.Load()
	return data, events, p.doors[s.index%len(p.doors)], nil
}

// hasPassed reports whether the subscriber has got what was kept when it came, and was not told yet.
func (s *Subscriber) hasPassed() bool {
	return s.arrival != nil && s.arrival.behind && !s.isAhead() && s.CaughtUp()
}

// tell adds the position that says that the subscriber has caught up, if there is room for it.
func (s *Subscriber) tell(data []byte, more bool) ([]byte, bool) {
	h := s.hub
	id := h.history.ID(s.Number)
	frame := event.Position{Live: true, Expires: s.arrival.expires}.Frame(id)
	gap := s.once && h.history.Misses(&s.Cursor) // some of it was lost, and the gap would stand further on
	if gap {
		frame = append(event.Gap(id), frame...)
	}
	if len(data) > 0 && len(data)+len(frame) > history.MaxPiece {
		return data, true // the position comes next
	}
	if gap {
		h.gaps.Add(1)
	}
	s.arrival.behind = false
	s.settle()
	return append(slices.Clip(data), frame...), more
}

// findPlace places the subscriber if it has no place in this epoch, or has waited too long for the place that it named.
func (s *Subscriber) findPlace() {
	switch late := s.Number > s.hub.highest(); {
	case int(s.epochs) != s.hub.epochs:
		if s.arrival == nil {
			s.arrival = &arrival{after: unknown}
		}
		s.place()
	case s.isAhead() && late && time.Now().After(s.arrival.ahead):
		s.place()
	case s.isAhead() && !late:
		s.arrival.ahead = time.Time{}
	}
}

// Received returns how many events the subscriber was handed so far, ticks and gaps included. Any goroutine may call it.
func (s *Subscriber) Received() uint64 { return s.received.Load() }

// Close tells the hub that this subscriber is gone. It must be called once.
func (s *Subscriber) Close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.hub.leave(s)
}
