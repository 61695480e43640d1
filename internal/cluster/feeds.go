package cluster

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"gin-sse/internal/event"
)

const (
	maxIdle  = 10_000    // patterns that nobody follows are kept; beyond that, a pattern goes with its last subscriber
	maxTails = 100 << 10 // subjects below a wildcard that are checked one by one
)

// feeds are the patterns that are followed, or were a moment ago. The hub calls some of the methods while it is locked,
// so none of them calls the hub, or waits for NATS.
type feeds struct {
	mu        sync.Mutex
	changed   chan struct{} // has a value when there is something to load
	byPattern map[event.Pattern]*feed
	wanted    map[*feed]bool // those that take will return
	idle      int            // how many are idle
	handed    uint64         // the hub has messages up to this number
	seen      uint64         // the number of the newest message that came live
}

// feed is what is known of one pattern.
type feed struct {
	pattern event.Pattern
	state   state
	given   bool      // take has returned it
	loads   int       // how often it had to be loaded; tells one time from another
	idle    time.Time // since when nobody follows it
	sub     *nats.Subscription

	upTo    uint64            // the hub has all messages up to this number, even in the next session
	fetched uint64            // it has those up to this number because they were fetched
	handed  uint64            // when messages were found to be missing: the hub had others up to this number
	base    uint64            // messages up to this number came, or are not needed
	tail    uint64            // the number of the last message that was seen in this session
	tails   map[string]uint64 // of a wildcard: that number for each subject
	named   map[string]uint64 // while it is not loaded: for each subject, the number of the last message that was named and did not come
}

type state int

const (
	dropped state = iota // nobody follows it, and the next sweep gives it up
	wanted
	loading
	loaded
	idle // loaded, but no longer followed
)

func newFeeds() *feeds {
	return &feeds{changed: make(chan struct{}, 1), byPattern: map[event.Pattern]*feed{}, wanted: map[*feed]bool{}}
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
	case f.state == dropped:
		s.want(f)
	case f.state == idle:
		f.state = loaded
		s.idle--
	}
	return f.state == loaded
}

// Unfollow notes that a pattern is no longer followed. It stays loaded for a while.
func (s *feeds) Unfollow(pattern event.Pattern) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.byPattern[pattern]
	if f.state == loaded && s.idle < maxIdle {
		f.state, f.idle = idle, time.Now()
		s.idle++
		return
	}
	s.drop(f)
}

// Complete reports whether a pattern is loaded.
func (s *feeds) Complete(pattern event.Pattern) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.byPattern[pattern]
	return f != nil && f.state >= loaded
}

// want notes that a feed must be loaded.
func (s *feeds) want(f *feed) {
	f.state = wanted
	f.loads++
	s.wanted[f] = true
	select {
	case s.changed <- struct{}{}:
	default: // it has a value
	}
}

// drop gives up a feed.
func (s *feeds) drop(f *feed) {
	delete(s.wanted, f)
	if f.state == idle {
		s.idle--
	}
	f.state, f.upTo, f.fetched, f.handed = dropped, 0, 0, 0
	f.loads++
	if !f.given { // it may be one of very many that come and go while NATS is away
		delete(s.byPattern, f.pattern)
	}
}

// take returns what must be loaded and was not returned before: topics and wildcards.
func (s *feeds) take() (topics, wildcards []*job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.wanted {
		f.state, f.given = loading, true
		if j := (&job{feed: f, turn: f.loads}); f.pattern.IsWildcard() {
			wildcards = append(wildcards, j)
		} else {
			topics = append(topics, j)
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

func (j *job) isCurrent() bool { return j.loads == j.turn }

// reload notes that messages of a feed may be missing, or that loading it must begin again. It is wanted once more if it
// is followed, and otherwise dropped.
func (s *feeds) reload(f *feed) {
	switch f.state {
	case dropped, wanted: // there is nothing to load, or it is to be loaded anyway
	case idle:
		s.drop(f)
	default:
		s.want(f)
	}
}

// reset has every pattern loaded again, and returns all of them. sure is the number up to which all messages are known to
// have come. In a new epoch the hub has none of them any longer.
func (s *feeds) reset(sure uint64, newEpoch bool) (patterns []event.Pattern) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.byPattern {
		if f.state >= loaded {
			f.handed = s.handed
		}
		f.upTo = min(f.upTo, max(f.fetched, sure)) // what came later may be from another leader, and not be all
		if newEpoch {
			f.upTo, f.fetched, f.handed = 0, 0, 0
		}
		f.base, f.tail, f.tails, f.named = 0, 0, nil, nil
		s.reload(f)
	}
	if newEpoch {
		s.handed, s.seen = 0, 0
	}
	return slices.Collect(maps.Keys(s.byPattern))
}

// newest returns the number of the newest message that came live.
func (s *feeds) newest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// unsubscribed returns the subscriptions of all feeds, which have none from then on.
func (s *feeds) unsubscribed() (subs []*nats.Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.byPattern {
		if f.sub != nil {
			subs = append(subs, f.sub)
			f.sub = nil
		}
	}
	return subs
}

// sweep gives up the patterns that nobody has followed for that long, and returns all that were given up since the last
// sweep.
func (s *feeds) sweep(idleFor time.Duration) (gone []*feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.byPattern {
		if f.state == idle && time.Since(f.idle) >= idleFor {
			s.drop(f)
		}
		if f.state == dropped {
			gone = append(gone, f)
			delete(s.byPattern, f.pattern)
		}
	}
	return gone
}

// needed reports whether messages of a topic are needed.
func (s *feeds) needed(topic string) bool { return s.find(topic, wanted, nil) }

// covers reports whether the hub has all messages of a topic.
func (s *feeds) covers(topic string) bool { return s.find(topic, loaded, nil) }

// find reports whether a pattern that matches the topic is in this state or a later one, other than one of them.
func (s *feeds) find(topic string, least state, except *feed) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	is := func(f *feed) bool { return f != nil && f != except && f.state >= least }
	if is(s.byPattern[event.Pattern(topic)]) {
		return true
	}
	for pattern := range event.Wildcards(topic) {
		if is(s.byPattern[pattern]) {
			return true
		}
	}
	return false
}

// matching returns the feeds that want a topic's messages. The caller has the lock.
func (s *feeds) matching(topic string) (all []*feed) {
	add := func(pattern event.Pattern) {
		if f := s.byPattern[pattern]; f != nil && f.state > dropped {
			all = append(all, f)
		}
	}
	add(event.Pattern(topic))
	for pattern := range event.Wildcards(topic) {
		add(pattern)
	}
	return all
}

// came notes a message, and reports whether the feed must be loaded again. hole is true if another one before it did not
// come. late is true if the hub has later messages already, and would not take this one.
func (f *feed) came(m received, hole, late bool) (again bool) {
	before := f.before(m.subject)
	if m.replaces() { // whatever did not come is replaced
		hole = false
		delete(f.named, m.subject)
	}
	switch {
	case f.state < loaded && hole:
		if f.named == nil {
			f.named = make(map[string]uint64, 1)
		}
		f.named[m.subject] = m.previous // load will know more
	case f.state < loaded:
	case hole:
		f.upTo = min(f.upTo, before)
	case late && m.number > before:
		f.upTo = min(f.upTo, m.number-1)
		hole = true
	default:
		f.upTo = max(f.upTo, m.number)
	}
	f.note(m.subject, m.number)
	return hole && f.state >= loaded
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
	if f.tail = max(f.tail, number); !f.pattern.IsWildcard() {
		return
	}
	if f.state >= loaded && len(f.tails) >= maxTails {
		f.base, f.tails = f.upTo, nil
	}
	if f.tails == nil {
		f.tails = map[string]uint64{}
	}
	f.tails[subject] = max(f.tails[subject], number)
}

// load notes what a job has fetched: all messages from a number on, as far as the stream had them, up to its end. The
// feed is complete if all later ones came. It returns the subjects of which the stream dropped messages before they
// could be fetched, with the number of the newest such message.
func (f *feed) load(j *job) (complete bool, lost map[string]uint64) {
	lost, complete = map[string]uint64{}, true
	for subject, number := range f.named {
		switch {
		case number > j.end:
			complete = false
		case number >= j.from && number > j.fetched[subject]:
			lost[subject] = number
		}
	}
	f.named = nil
	f.base = max(f.base, j.from-1)
	for subject, number := range j.fetched {
		f.note(subject, number)
	}
	if !complete {
		f.upTo = j.from - 1
		return false, lost
	}
	f.upTo, f.fetched = max(j.end, f.tail), j.end
	return true, lost
}
