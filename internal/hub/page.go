package hub

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
)

// feed is what the hub knows of a pattern that is followed.
type feed struct {
	several []member      // its subscribers that follow other patterns, too
	crowd   *crowd        // the others, or nil if there was none yet
	due     time.Duration // from when on its next message may be sent at once
	waiting bool          // it is in Hub.waiting
	held    bool          // messages are missing in the history, see demand.go
}

// member is a subscriber, and which of its patterns this is.
type member struct {
	s       *Subscriber
	pattern int
}

// crowd is the subscribers that follow a pattern and nothing else. They read from its page.
type crowd struct {
	singles int           // how many there are
	joined  int           // how many there ever were
	spoke   time.Duration // when it was last sent anything
	next    page          // as it will be published
	page    atomic.Pointer[page]
}

// smallPage is how many bytes a page has before the next one begins, if few subscribers share it.
const smallPage = 512

// page is the newest frames of a pattern, in one piece. A published page never changes: a longer one takes its place,
// or another one that begins where it ended. A single subscriber keeps its position in the page. As long as it is less
// than a page behind, it needs no lock to read on.
type page struct {
	position          // where it ends
	before   position // where the page before it ended
	data     []byte
	last     uint64          // number of the last message
	ticks    uint32          // Hub.ticks at the last tick
	over     bool            // the topic has ended: look into the history
	doors    []chan struct{} // closed when the next page is published; one for each portion of the subscribers
}

// position is the end of a page at some moment.
type position struct {
	page, offset, events uint32
}

// isFull reports whether the page must be published before it takes another frame.
func (c *crowd) isFull(frame []byte) bool {
	return c.isPending() && len(c.next.data)+len(frame) > history.MaxPiece
}

// isPending reports whether there is something on the page that is not published.
func (c *crowd) isPending() bool { return c.next.position != c.page.Load().position }

// add puts a frame on the page. A small crowd has a small page: for most topics, it is a single frame that is shared with
// the history.
func (c *crowd) add(frame []byte, events uint32, number uint64) {
	p := &c.next
	room := history.MaxPiece / 2
	if c.singles <= portion {
		room = smallPage
	}
	if !c.isPending() && (len(p.data)+len(frame) > room || number == 0 && events == 0) { // a comment: what is there is old
		p.before, p.position, p.data = p.position, position{page: p.page + 1}, nil
	}
	if len(p.data) == 0 {
		p.data = slices.Clip(frame) // the next one makes a copy
	} else {
		p.data = append(p.data, frame...)
	}
	p.offset, p.events = uint32(len(p.data)), p.events+events
	p.last = max(p.last, number)
	p.over = p.over && number == 0 // a message opens a topic again
}

// publish makes the page readable, and returns the doors behind which subscribers wait for it.
func (c *crowd) publish() (doors []chan struct{}) {
	p := c.next
	p.doors = make([]chan struct{}, 1+c.singles/portion)
	for i := range p.doors {
		p.doors[i] = make(chan struct{})
	}
	return c.page.Swap(&p).doors
}

// skip begins a page to which no position leads, so that all subscribers read the history.
func (c *crowd) skip() {
	p := &c.next
	p.position, p.data = position{page: p.page + 2}, nil
	p.before = p.position
}

// turn makes all subscribers read the history at once.
func (h *Hub) turn(f *feed) {
	if f.hasPage() {
		f.crowd.skip()
	}
	h.call(f)
}

// from returns what is on the page after a position, and moves the position. ok is false if the page does not go back
// that far.
func (p *page) from(at *position) (data []byte, events int, ok bool) {
	from := *at
	switch {
	case from == p.before:
		from = position{page: p.page}
	case from.page > p.page, from.page == p.page && from.offset > p.offset: // what comes next is not published yet
		return nil, 0, true
	case from.page != p.page:
		return nil, 0, false
	}
	*at = p.position
	return p.data[from.offset:], int(p.events - from.events), true
}

// join adds a subscriber to the feeds of its patterns.
func (h *Hub) join(s *Subscriber) {
	h.subscribers++
	if pattern, only := s.Topics.Only(); only {
		f := h.open(pattern)
		if f.crowd == nil {
			f.crowd = &crowd{}
			f.crowd.page.Store(&page{})
		}
		c := f.crowd
		if s.crowd, s.index = c, c.joined; c.singles == 0 {
			c.spoke = h.now()
			c.next = page{position: position{page: c.next.page + 2}, ticks: h.ticks}
			c.publish()
		}
		c.joined++
		c.singles++
		return
	}
	s.several = &several{wake: make(chan struct{}, 1)}
	s.several.active.Store(int64(h.now()))
	for pattern := range s.Topics.Patterns() {
		f := h.open(pattern)
		f.several = append(f.several, member{s, len(s.several.slots)})
		s.several.slots = append(s.several.slots, int32(len(f.several)-1))
	}
}

// open returns the feed of a pattern, which gets a subscriber in a moment.
func (h *Hub) open(pattern event.Pattern) *feed {
	f := h.feeds[pattern]
	if f == nil {
		f = &feed{}
		pattern = event.Pattern(strings.Clone(string(pattern))) // it may outlive the subscriber, whose set may be much longer
		h.feeds[pattern] = f
		if pattern.IsWildcard() {
			h.history.Watch(pattern)
		}
		f.held = h.source != nil && !h.source.Follow(pattern)
	}
	return f
}

// leave takes a subscriber off the feeds of its patterns.
func (h *Hub) leave(s *Subscriber) {
	h.subscribers--
	i := 0
	for pattern := range s.Topics.Patterns() {
		f := h.feeds[pattern]
		if s.crowd != nil {
			if s.crowd.singles--; s.crowd.singles == 0 {
				s.crowd.next.data = nil
				s.crowd.page.Store(&page{})
			}
		} else {
			end := len(f.several) - 1
			slot, last := s.several.slots[i], f.several[end]
			f.several[slot], last.s.several.slots[last.pattern] = last, slot
			f.several[end] = member{}
			f.several = f.several[:end]
		}
		if f.subscribers() == 0 {
			h.close(pattern)
		}
		i++
	}
}

// close removes a feed that nobody follows.
func (h *Hub) close(pattern event.Pattern) {
	delete(h.feeds, pattern)
	if pattern.IsWildcard() {
		h.history.Unwatch(pattern)
	}
	if h.source != nil {
		h.source.Unfollow(pattern)
	}
}

func (f *feed) hasPage() bool { return f.crowd != nil && f.crowd.singles > 0 }

func (f *feed) subscribers() int {
	if f.crowd == nil {
		return len(f.several)
	}
	return len(f.several) + f.crowd.singles
}
