package cluster

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// A message to a topic that has ended is refused. If this replica's clients follow the topic, the hub knows. Otherwise the
// replica would have to ask NATS before each message. It saves the question where it published the newest message of the
// topic itself: it tells NATS that it supposes so, and NATS stores the next message only if that is right. For a topic to
// which other replicas publish as well, it mostly is not, so the replica asks; and all publishers that wait share the answer.

// maxPublished is how many topics a replica remembers the newest message of.
const maxPublished = 10_000

// tails knows the newest messages of the topics that this replica publishes to. Its methods may be called from any number
// of goroutines.
type tails struct {
	mu     sync.Mutex
	topics map[string]*tail
}

// tail is the end of a topic.
type tail struct {
	flying int       // how many messages are on their way
	newest uint64    // number of the newest message that was published here, unless it ended the topic, or 0
	likely bool      // it is probably the topic's newest message
	now    *question // is being asked
	next   *question // for those that came since
}

// question is whether a topic has ended.
type question struct {
	done  chan struct{}
	ended bool
	err   error
}

// begin notes that a message is on its way. It returns the number of the topic's newest message, and whether that is
// likely to be right.
func (t *tails) begin(topic string) (newest uint64, likely bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.topics[topic] == nil {
		if len(t.topics) >= maxPublished {
			t.clear()
		}
		t.topics[topic] = &tail{}
	}
	tail := t.topics[topic]
	tail.flying++
	return tail.newest, tail.likely && tail.flying == 1
}

// end notes that a message is no longer on its way. Its number is 0 if it was not stored, or does not count.
func (t *tails) end(topic string, number uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tail := t.topics[topic]
	tail.flying--
	tail.newest = max(tail.newest, number)
}

// forget forgets the newest messages: their numbers may be given to others.
func (t *tails) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clear()
}

func (t *tails) clear() {
	for topic, tail := range t.topics {
		if tail.newest, tail.likely = 0, false; tail.flying == 0 {
			delete(t.topics, topic)
		}
	}
}

// ended reports whether a topic to which a message is on its way has ended, as NATS knows it after the call began.
func (r *Replica) ended(ctx context.Context, topic string) (bool, error) {
	q, before, mine := r.tails.question(topic)
	if mine {
		if before != nil {
			before.wait(ctx)
		}
		number, ended, err := uint64(0), false, ctx.Err()
		if r.tails.ask(topic, q); err == nil {
			number, ended, err = r.lastOf(ctx, topic)
		}
		r.tails.answer(topic, q, number, ended, err)
	}
	if !q.wait(ctx) {
		return false, ctx.Err()
	}
	return q.ended, q.err
}

// question returns the topic's next question. The first publisher that gets it has to ask it, after the one before it.
func (t *tails) question(topic string) (next, before *question, mine bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tail := t.topics[topic]
	if mine = tail.next == nil; mine {
		tail.next = &question{done: make(chan struct{})}
	}
	return tail.next, tail.now, mine
}

// ask notes that a question is being asked. Publishers that come later have to wait for another one.
func (t *tails) ask(topic string, q *question) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.topics[topic].now, t.topics[topic].next = q, nil
}

// answer notes the answer to a question.
func (t *tails) answer(topic string, q *question, number uint64, ended bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tail := t.topics[topic]
	tail.now, tail.likely = nil, err == nil && !ended && number == tail.newest && tail.flying == 1
	q.ended, q.err = ended, err
	close(q.done)
}

// wait waits for the answer, and reports whether it came before ctx ended.
func (q *question) wait(ctx context.Context) bool {
	select {
	case <-q.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// lastOf returns the number of the topic's last message, or 0 if it has none, and whether that has ended the topic.
func (r *Replica) lastOf(ctx context.Context, topic string) (number uint64, ended bool, err error) {
	m, err := r.last(ctx, subjectOf(r.cfg.Stream, topic))
	switch {
	case errors.Is(err, errGone):
		return 0, false, nil
	case err != nil:
		return 0, false, err
	}
	number, err = strconv.ParseUint(last(m, jetstream.SequenceHeader), 10, 64)
	return number, last(m, endHeader) == "true", err
}
