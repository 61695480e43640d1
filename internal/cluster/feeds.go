package cluster

import (
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"gin-sse/internal/event"
)

const (
	maxIdle      = 10_000    // patterns that nobody follows are kept; beyond that, a pattern goes with its last subscriber
	lingerSweeps = 10        // how many sweeps a pattern stays that nobody follows
	maxTails     = 100 << 10 // subjects below a wildcard that are checked one by one
)

// feeds are the patterns that are followed, or were a moment ago. The hub calls some of the methods while it is locked,
// so none of them calls the hub, or waits for NATS.
type feeds struct {
	mu        sync.Mutex
	changed   chan struct{} // has a value when there is something to load
	byPattern map[event.Pattern]*feed
	wanted    map[*feed]bool // those that take will return
	gone      []*feed        // those that sweep will return
	idle      int            // how many nobody follows
	sweeps    int            // how many there were, and one more
	handed    uint64         // the hub has messages up to this number

	newest atomic.Uint64 // the number of the newest message that came live
	sure   atomic.Uint64 // all messages up to this number came, as the leader was the same one afterwards
}

// feed is what is known of one pattern. Numbers that begin with "in this session" are 0 when a session begins.
type feed struct {
	pattern event.Pattern
	sub     *nats.Subscription
	job     *job // loads it, or nil
	idle    int  // feeds.sweeps when its last subscriber left; 0 if it is followed
	loaded  bool
	taken   bool // take has returned it

	upTo    uint64            // the hub has all messages up to this number, even in the next session
	handed  uint64            // when messages were found to be missing: the hub had others up to this number
	base    uint64            // in this session: messages up to this number came, or are not needed
	tail    uint64            // in this session: the number of the last message
	missing uint64            // in this session, until it is loaded: the highest number that was named and did not come
	tails   map[string]uint64 // of a wildcard: tail for each subject
}

func newFeeds() *feeds {
	return &feeds{changed: make(chan struct{}, 1), byPattern: map[event.Pattern]*feed{}, wanted: map[*feed]bool{}, sweeps: 1}
}

// Follow notes that a pattern is followed, and reports whether it is loaded.
func (s *feeds) Follow(pattern event.Pattern) (complete bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.byPattern[pattern]
	switch {
	case f == nil:
		f = &feed{pattern: pattern}
		s.byPattern[pattern] = f
		s.want(f)
	case f.idle > 0:
		f.idle = 0
		s.idle--
	}
	return f.loaded
}

// Unfollow notes that a pattern is no longer followed. It stays loaded for a while.
func (s *feeds) Unfollow(pattern event.Pattern) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.byPattern[pattern]; f.loaded && s.idle < maxIdle {
		f.idle = s.sweeps
		s.idle++
	} else {
		s.drop(f)
	}
}

// Complete reports whether a pattern is loaded.
func (s *feeds) Complete(pattern event.Pattern) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.byPattern[pattern]
	return f != nil && f.loaded
}

// want notes that a feed must be loaded.
func (s *feeds) want(f *feed) {
	f.loaded, f.job = false, nil
	s.wanted[f] = true
	select {
	case s.changed <- struct{}{}:
	default: // it has a value
	}
}

// drop gives up a feed.
func (s *feeds) drop(f *feed) {
	delete(s.byPattern, f.pattern)
	delete(s.wanted, f)
	if f.idle > 0 {
		s.idle--
	}
	f.loaded, f.job = false, nil
	if f.taken { // otherwise it may be one of very many that come and go while NATS is away
		s.gone = append(s.gone, f)
	}
}

// take returns what must be loaded and was not returned before: topics and wildcards.
func (s *feeds) take() (topics, wildcards []*job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.wanted {
		f.job, f.taken = &job{feed: f}, true
		if f.pattern.IsWildcard() {
			wildcards = append(wildcards, f.job)
		} else {
			topics = append(topics, f.job)
		}
	}
	s.wanted = map[*feed]bool{} // a map never shrinks
	return topics, wildcards
}

// isNeeded reports whether a job is still to be done: its pattern was neither given up since, nor must be loaded once more.
func (s *feeds) isNeeded(j *job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return j.isCurrent()
}

func (j *job) isCurrent() bool { return j.job == j }

// reload notes that messages of a feed above a number may be missing. It is loaded once more if it is followed, and
// otherwise given up.
func (s *feeds) reload(f *feed, above uint64) {
	if f.loaded {
		f.upTo, f.handed = min(above, max(f.upTo, min(f.tail, s.sure.Load()))), s.handed
	}
	if f.idle > 0 {
		s.drop(f)
	} else {
		s.want(f)
	}
}

// reset has every pattern loaded again, and returns all of them. In a new epoch the hub has no messages any longer.
func (s *feeds) reset(newEpoch bool) (patterns []event.Pattern) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if newEpoch {
		s.handed = 0
		s.newest.Store(0)
		s.sure.Store(0)
	}
	patterns = slices.Collect(maps.Keys(s.byPattern))
	for _, f := range s.byPattern {
		s.reload(f, math.MaxUint64)
		f.base, f.tail, f.tails, f.missing = 0, 0, nil, 0
		if newEpoch {
			f.upTo, f.handed = 0, 0
		}
	}
	return patterns
}

// unsubscribed returns the subscriptions of all feeds, which have none from then on.
func (s *feeds) unsubscribed() (subs []*nats.Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range slices.AppendSeq(s.gone, maps.Values(s.byPattern)) {
		if f.sub != nil {
			subs = append(subs, f.sub)
			f.sub = nil
		}
	}
	return subs
}

// sweep gives up the patterns that nobody has followed for so many sweeps, and returns all that were given up since the
// last one.
func (s *feeds) sweep() (gone []*feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweeps++
	for _, f := range s.byPattern {
		if f.idle > 0 && s.sweeps-f.idle > lingerSweeps {
			s.drop(f)
		}
	}
	gone, s.gone = s.gone, nil
	return gone
}

// needed reports whether messages of a topic are needed.
func (s *feeds) needed(topic string) bool { return s.has(topic, func(*feed) bool { return true }) }

// covers reports whether the hub has all messages of a topic.
func (s *feeds) covers(topic string) bool {
	return s.has(topic, func(f *feed) bool { return f.loaded })
}

// has reports whether there is such a feed that wants a topic's messages.
func (s *feeds) has(topic string, is func(*feed) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.matching(topic), is)
}

// matching returns the feeds that want a topic's messages. The caller has the lock.
func (s *feeds) matching(topic string) (all []*feed) {
	if f := s.byPattern[event.Pattern(topic)]; f != nil {
		all = append(all, f)
	}
	for pattern := range event.Wildcards(topic) {
		if f := s.byPattern[pattern]; f != nil {
			all = append(all, f)
		}
	}
	return all
}

// came notes a message. It reports whether the feed must be loaded again, because messages above a number may be missing:
// hole is true if one before this message did not come, and late if the hub has later messages already, and would not take
// this one.
func (f *feed) came(m received, hole, late bool) (above uint64, again bool) {
	before := f.before(m.subject)
	f.note(m.subject, m.number)
	hole = hole && !m.replaces() // whatever did not come is replaced
	switch {
	case hole && !f.loaded: // load will know more
		f.missing = max(f.missing, m.previous)
	case hole:
		return before, true
	case late && f.loaded && m.number > before:
		return m.number - 1, true
	}
	return 0, false
}

// seen returns the number of the last message on a subject that was seen in this session, or 0.
func (f *feed) seen(subject string) uint64 {
	if f.pattern.IsWildcard() {
		return f.tails[subject]
	}
	return f.tail
}

// before returns up to which number nothing is missing on a subject.
func (f *feed) before(subject string) uint64 { return max(f.base, f.seen(subject)) }

func (f *feed) note(subject string, number uint64) {
	if f.pattern.IsWildcard() {
		if f.loaded && len(f.tails) >= maxTails {
			f.base, f.tails = f.tail, nil
		}
		if f.tails == nil {
			f.tails = map[string]uint64{}
		}
		f.tails[subject] = max(f.tails[subject], number)
	}
	f.tail = max(f.tail, number)
}

// load notes what a job has fetched: all messages from a number on, as far as the stream had them, up to its end. It
// reports whether all later ones came.
func (f *feed) load(j *job) (complete bool) {
	complete = f.missing <= j.end
	f.base, f.missing = max(f.base, j.from-1), 0
	for subject, number := range j.fetched {
		f.note(subject, number)
	}
	if complete {
		f.upTo = j.end
	}
	return complete
}
