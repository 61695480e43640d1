package cluster

import (
	"context"
	"errors"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// A message to a topic that has ended is refused. If this replica's clients follow the topic, the hub knows. Otherwise the
// publishers of a topic go in groups, one after the other: those that come while a group is on its way are the next one. The
// first publisher of a group finds out whether the topic has ended, for all of them. If the newest message is probably one
// that this replica has published, it sends its own message at once, and NATS stores it only if that is right. Otherwise,
// as when publishers of a topic come through several replicas, it asks NATS.

// maxPublished is how many topics a replica remembers the newest message of.
const maxPublished = 10_000

// published knows the topics that this replica publishes to. Its methods may be called from any number of goroutines.
type published struct {
	mu     sync.Mutex
	topics map[string]*tail
}

// tail is the end of a topic.
type tail struct {
	newest uint64 // number of the newest message that was published here, unless it ended the topic, or 0
	likely bool   // it is probably the topic's newest message
	now    *group // is on its way, or nil
	next   *group // or nil
}

// group is a group of publishers.
type group struct {
	tail    *tail
	members int
	known   chan struct{} // is closed when ended and err are known
	ended   bool
	err     error
	gone    chan struct{} // is closed when the last member has left
}

// join makes a publisher a member of the topic's next group. The first one returns when it is the group's turn, and has to
// call tell. The others return when it did. Each has to call leave afterwards, unless there is an error.
func (p *published) join(ctx context.Context, topic string) (g *group, isFirst bool, err error) {
	p.mu.Lock()
	t := p.topics[topic]
	if t == nil {
		if len(p.topics) >= maxPublished {
			p.clear()
		}
		t = &tail{}
		p.topics[topic] = t
	}
	if isFirst = t.next == nil; isFirst {
		t.next = &group{tail: t, known: make(chan struct{}), gone: make(chan struct{})}
	}
	g = t.next
	g.members++
	wait := g.known
	if isFirst && t.now == nil {
		t.now, t.next, wait = g, nil, nil
	} else if isFirst {
		wait = t.now.gone
	}
	p.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	switch {
	case isFirst && wait != nil:
		p.mu.Lock()
		t.next = nil
		if err == nil {
			t.now = g
		}
		p.mu.Unlock()
		if err != nil {
			g.tell(false, errAskFirst) // the others form another group
		}
	case !isFirst && err == nil:
		err = g.err
	}
	if err != nil {
		p.leave(g, 0)
	}
	return g, isFirst, err
}

// tell tells the members of a group whether the topic has ended.
func (g *group) tell(ended bool, err error) {
	g.ended, g.err = ended, err
	close(g.known)
}

// leave notes that a publisher is done. The number is that of its message, or 0 if it was not stored or ended the topic.
func (p *published) leave(g *group, number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g.tail.newest = max(g.tail.newest, number)
	if g.members--; g.members > 0 {
		return
	}
	close(g.gone)
	if g.tail.now == g {
		g.tail.now = nil
	}
}

// guess returns the number of the topic's newest message, and whether that is likely to be right.
func (p *published) guess(g *group) (newest uint64, likely bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return g.tail.newest, g.tail.likely
}

// forget forgets the newest messages: their numbers may be given to others.
func (p *published) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

func (p *published) clear() {
	for topic, t := range p.topics {
		if t.newest, t.likely = 0, false; t.now == nil && t.next == nil {
			delete(p.topics, topic)
		}
	}
}

// ask asks NATS whether the topic of a group has ended, and tells the group.
func (r *Replica) ask(ctx context.Context, g *group, topic string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWait) // this publisher may leave, the others stay
	defer cancel()
	newest, ended, err := r.lastOf(ctx, topic)
	g.tell(ended, err)
	if err != nil {
		return err
	}
	r.published.mu.Lock()
	defer r.published.mu.Unlock()
	g.tail.likely = !ended && newest == g.tail.newest
	return nil
}

// lastOf returns the number of a topic's last message, or 0 if it has none, and whether that message ended the topic.
func (r *Replica) lastOf(ctx context.Context, topic string) (number uint64, ended bool, err error) {
	m, err := r.last(ctx, subjectOf(r.cfg.Stream, topic))
	switch {
	case errors.Is(err, errGone):
		return 0, false, nil
	case err != nil:
		return 0, false, err
	}
	err = parse(m, jetstream.SequenceHeader, &number)
	return number, last(m, endHeader) == "true", err
}
