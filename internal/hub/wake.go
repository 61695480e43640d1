package hub

import "runtime"

// portion is how many subscribers are woken at a time.
const portion = 256

// call is subscribers to be woken.
type call struct {
	doors []chan struct{}
	feed  *feed
	left  int // so many of the first ones in feed.several
}

// call publishes what a feed has, and has its subscribers woken. The caller must unlock the hub by unlock.
func (h *Hub) call(f *feed) {
	now := h.now()
	f.due = now + pace
	c := call{feed: f, left: len(f.several)}
	if f.hasPage() {
		c.doors = f.crowd.publish()
		f.crowd.spoke = now
	}
	if c.left+len(c.doors) <= portion && len(c.doors) <= 1 {
		h.soon = append(h.soon, c)
	} else {
		h.later(c)
	}
}

// later makes run wake many subscribers: a publisher should not wait for that, nor anything else behind it.
func (h *Hub) later(calls ...call) {
	h.calls = append(h.calls, calls...)
	select {
	case h.called <- struct{}{}:
	default: // it has a value
	}
}

// unlock unlocks the hub, and wakes the subscribers of small calls if there are few of these.
func (h *Hub) unlock() {
	calls := h.soon
	if h.soon = nil; len(calls) > portion {
		h.later(calls...)
		calls = nil
	}
	h.mu.Unlock()
	for i := range calls {
		for h.some(&calls[i]) {
		}
	}
}

// some wakes the next portion of a call, and reports whether there are more. It goes from the last member to the first:
// if one leaves meanwhile, another one takes its place that was woken already.
func (h *Hub) some(c *call) (more bool) {
	switch {
	case len(c.doors) > 0:
		close(c.doors[0])
		c.doors = c.doors[1:]
	case c.left > 0:
		h.mu.RLock()
		defer h.mu.RUnlock()
		c.left = min(c.left, len(c.feed.several))
		for range min(c.left, portion) {
			c.left--
			c.feed.several[c.left].s.several.rouse()
		}
	}
	return len(c.doors)+c.left > 0
}

// run sends what waits for its pace, breaks silence, and wakes large crowds, until Close.
func (h *Hub) run() {
	defer close(h.stopped)
	defer h.pacer.Stop()
	defer h.keeper.Stop()
	for stop := false; ; {
		select {
		case <-h.called:
		case <-h.pacer.C:
			h.flush()
		case <-h.keeper.C:
			h.comment()
			h.keeper.Reset(h.options.Keepalive / 15)
		case <-h.stop:
			stop = true
		}
		for h.wakeSome() {
			runtime.Gosched() // otherwise all else, such as a POST, waits until thousands of subscribers have written
			select {
			case <-h.pacer.C:
				h.flush()
			default:
			}
		}
		if stop {
			return
		}
	}
}

// wakeSome wakes some of the subscribers that are to be woken, and reports whether there are more.
func (h *Hub) wakeSome() (more bool) {
	h.mu.Lock()
	if len(h.calls) == 0 {
		h.mu.Unlock()
		return false
	}
	c := h.calls[0]
	h.calls[0], h.calls = call{}, h.calls[1:]
	h.mu.Unlock()
	if h.some(&c) {
		h.mu.Lock()
		h.calls = append(h.calls, c) // the others have their turn
		h.mu.Unlock()
	}
	return true
}
