package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"gin-sse/internal/event"
)

// All that a replica publishes goes through one goroutine, the committer. It works in rounds: everything that waits takes
// its next step at once, and the next round begins when NATS has answered. A message takes up to three steps:
//
//  1. Ask what must be known before it is stored: whether its topic has ended, and whether its key was used before. If the
//     replica's clients follow the topic, the hub knows whether it has ended. Besides, NATS can check one thing along with
//     the message: that the newest message of the topic is still the one that this replica has published, or that the key
//     has no receipt. So most messages need no question, and others share one.
//  2. Store the message, or several lines of an upload as a batch.
//  3. Store the receipt of its key.
//
// A round does not wait long for an answer, so that one that does not come holds up nobody else.

const (
	maxRound     = 1000                  // posts that take a step together; NATS takes 1,024 subjects in a question
	maxOpen      = 4 << 10               // requests that NATS has not answered yet
	roundWait    = 20 * time.Millisecond // for the answers of a round
	maxPublished = 10_000                // topics whose tails are remembered
)

// post is what a publisher waits for: a message on its way into the stream, or several that are one batch. It belongs to
// the committer until it is done.
type post struct {
	messages []outgoing
	endKnown bool   // its topic has not ended
	isUnused bool   // its key has no receipt
	number   uint64 // with which it was stored, or the last message of a batch; then the receipt is the next step
	repeated bool   // NATS knew the key: it was stored before
	done     chan error
}

// committer is the part of a session that publishes.
type committer struct {
	*session
	inbox   string // what the subjects of answers begin with
	replies chan *nats.Msg
	ready   []*post          // those that take a step in the next round
	tails   map[string]*tail // of topics, by subject
	open    map[string]*open // what NATS has not answered yet, by the subject of the answer
	sent    uint64           // requests, in all rounds
	round   int
	left    int // requests of this round that are open
}

// tail is what is known of the newest message of a topic.
type tail struct {
	newest uint64 // number of the newest message that was published here, unless it ended the topic, or 0
	likely bool   // it is probably the topic's newest message
	over   bool   // the topic was ended here, which the hub may not have heard yet
}

// open is a request that NATS has not answered yet.
type open struct {
	round  int
	sent   time.Time
	answer func(m *nats.Msg, err error) (more bool) // is called until more is false: an answer may have several messages
}

// commit stores what is published, until ctx ends.
func (s *session) commit(ctx context.Context) error {
	c := &committer{
		session: s, inbox: s.nc.NewInbox() + ".", replies: make(chan *nats.Msg, 2*maxOpen),
		tails: map[string]*tail{}, open: map[string]*open{},
	}
	live, err := s.nc.ChanSubscribe(c.inbox+"*", c.replies)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	defer c.giveUp(live)
	late := time.NewTimer(roundWait)
	defer late.Stop()
	for {
		posts := s.posts
		if len(c.ready) >= maxRound || len(c.open) >= maxOpen {
			posts = nil
		}
		select {
		case p := <-posts:
			c.ready = append(c.ready, p)
			continue // until no more wait
		default:
		}
		if c.left == 0 && len(c.ready) > 0 && c.isFollowing() {
			c.begin()
			late.Reset(roundWait)
		}
		select {
		case p := <-posts:
			c.ready = append(c.ready, p)
		case m := <-c.replies:
			c.handle(m)
		case <-late.C:
			c.round, c.left = c.round+1, 0
			if c.expire(answerWait, context.DeadlineExceeded); len(c.open) > 0 {
				late.Reset(roundWait)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// giveUp ends what waits: the session is over.
func (c *committer) giveUp(live *nats.Subscription) {
	_ = live.Unsubscribe() // fails only if the connection is closed
	c.expire(0, errNotFollowed)
	for _, p := range c.ready {
		p.done <- errNotFollowed
	}
}

// begin begins a round.
func (c *committer) begin() {
	c.round++
	n := min(len(c.ready), maxRound)
	posts := slices.Clone(c.ready[:n])
	c.ready = slices.Delete(c.ready, 0, n)
	together := map[string]int{} // how many messages the round may store on each subject
	for _, p := range posts {
		if p.number == 0 {
			together[p.messages[0].Subject]++
		}
	}
	ends, receipts := map[string][]*post{}, map[string][]*post{} // which subjects to ask about, and for what
	for _, p := range posts {
		o := &p.messages[0]
		known, ended := c.isKnown(p)
		tail := c.tails[o.Subject]
		canExpect := tail != nil && tail.likely && !o.ask && together[o.Subject] == 1
		checkKey := o.receipt != "" && o.line == 0 && !o.ask && !p.isUnused && c.receipts.Load()
		switch {
		case p.number > 0:
			c.leaveReceipt(p)
		case ended:
			p.done <- event.ErrEnded
		case !known && !canExpect:
			ends[o.Subject] = append(ends[o.Subject], p)
		case !known && checkKey:
			receipts[o.receipt] = append(receipts[o.receipt], p)
		case !known:
			c.store(p, o.Subject, tail.newest)
		case checkKey:
			c.store(p, o.receipt, 0)
		default:
			c.store(p, "", 0)
		}
	}
	for subject, posts := range ends {
		c.ask(request{LastFor: subject}, map[string][]*post{subject: posts}, c.learnEnd)
	}
	if len(receipts) > 0 {
		c.ask(request{MultiLast: slices.Collect(maps.Keys(receipts))}, receipts, learnReceipt)
	}
}

// isKnown reports whether it is known that the topic of a post has ended or not.
func (c *committer) isKnown(p *post) (known, ended bool) {
	o := &p.messages[0]
	if p.endKnown || o.Erases() {
		return true, false
	}
	covers := c.Covers(o.Topic)
	ended = c.events.Ended(o.Topic)
	known = covers && c.Covers(o.Topic) // still: the hub forgets the end of a topic that it no longer has
	if tail := c.tails[o.Subject]; tail != nil && tail.over && !ended {
		return false, false
	}
	return known, known && ended
}

// ask asks for the last message on each subject for which posts wait. They go on unless learn returns an error. It gets
// the message, or nil if there is none. Any server that has the stream may answer, also one that is behind the leader.
func (c *committer) ask(what request, posts map[string][]*post, learn func(p *post, m *nats.Msg) error) {
	question := &nats.Msg{Subject: "$JS.API.DIRECT.GET." + c.cfg.Stream}
	question.Data, _ = json.Marshal(what) // strings always have a form in JSON
	c.request(question, func(m *nats.Msg, err error) (more bool) {
		found := err == nil && last(m, jetstream.SequenceHeader) != ""
		if err == nil && !found {
			if status := m.Header.Get("Status"); status != "404" && status != "204" {
				err = fmt.Errorf("ask for a message: %s %s", status, m.Header.Get("Description"))
			}
			m = nil
		}
		for subject, waiting := range posts {
			if found && subject != last(m, jetstream.SubjectHeader) {
				continue
			}
			delete(posts, subject)
			for _, p := range waiting {
				problem := err
				if err == nil {
					problem = learn(p, m)
				}
				if problem != nil {
					p.done <- problem
					continue
				}
				c.ready = append(c.ready, p)
			}
		}
		return found && len(what.MultiLast) > 0
	})
}

// learnEnd takes note of the last message of a topic.
func (c *committer) learnEnd(p *post, m *nats.Msg) error {
	subject, newest, ended := p.messages[0].Subject, uint64(0), false
	if m != nil {
		ended = last(m, endHeader) == "true"
		if err := parse(m, jetstream.SequenceHeader, &newest); err != nil {
			return err
		}
	}
	tail := c.tail(subject)
	tail.over, tail.likely = ended, !ended && newest == tail.newest
	if ended {
		return event.ErrEnded
	}
	p.endKnown = true
	return nil
}

// tail returns what is known of the end of a topic.
func (c *committer) tail(subject string) *tail {
	if c.tails[subject] == nil {
		if len(c.tails) >= maxPublished {
			clear(c.tails)
		}
		c.tails[subject] = &tail{}
	}
	return c.tails[subject]
}

// learnReceipt takes note of whether a key has a receipt.
func learnReceipt(p *post, m *nats.Msg) error {
	if m != nil {
		p.messages[0].ask = true
		return errAskFirst
	}
	p.isUnused = true
	return nil
}

// store stores a post, unless the last message on a subject has another number than newest.
func (c *committer) store(p *post, subject string, newest uint64) {
	p.messages[0].expect(subject, newest)
	all := []*nats.Msg{p.messages[0].Msg}
	if len(p.messages) > 1 {
		all = c.batch(p.messages)
	}
	for _, m := range all[:len(all)-1] {
		if err := c.nc.PublishMsg(m); err != nil {
			p.done <- err
			return
		}
	}
	_, _, known := c.truth.now()
	c.request(all[len(all)-1], func(m *nats.Msg, err error) bool {
		if err = c.stored(p, known, len(all), m, err); err == nil && !p.repeated && len(all) == 1 && p.messages[0].receipt != "" && c.receipts.Load() {
			c.ready = append(c.ready, p)
		} else {
			p.done <- err
		}
		return false
	})
}

// stored takes note of the answer to a post, which was sent as n messages. known is the highest number that was known then.
func (c *committer) stored(p *post, known uint64, n int, m *nats.Msg, err error) error {
	first, final, size := &p.messages[0], &p.messages[len(p.messages)-1], uint64(len(p.messages))
	if err != nil {
		for i := range p.messages {
			p.messages[i].tried = true
		}
	}
	ack, err := c.readAck(m, n, err)
	tail := cmp.Or(c.tails[first.Subject], &tail{})
	switch {
	case isRefusal(err, changed, inFlight):
		first.ask, tail.likely = true, false
		return errAskFirst
	case isRefusal(err, batchesOff):
		c.batches.Store(false)
	}
	if err != nil {
		return err
	}
	switch p.number, p.repeated = ack.Sequence-uint64(n)+size, ack.Duplicate; {
	case p.repeated:
		known = 0
	case final.End:
		tail = c.tail(first.Subject)
		tail.over, tail.likely = true, false
	default:
		tail.newest = max(tail.newest, p.number)
	}
	if c.truth.learn(answer{source: acknowledgement, place: place{number: p.number, key: final.Header.Get(jetstream.MsgIDHeader)}, known: known + size - 1}) == wentBack {
		c.endSession(errReplaced) // the number must not be given to anybody
		return errReplaced
	}
	return nil
}

// leaveReceipt stores the receipt of a message that was stored.
func (c *committer) leaveReceipt(p *post) {
	c.request(c.receiptFor(&p.messages[0], p.number), func(m *nats.Msg, err error) bool {
		_, err = c.readAck(m, 1, err)
		if isRefusal(err, noTTL) {
			c.receipts.Store(false) // somebody has made the stream anew
			err = nil
		}
		p.done <- err
		return false
	})
}

// pubAck is how NATS answers to a message, or to a batch.
type pubAck struct {
	jetstream.PubAck
	Count int                 `json:"count"` // of a batch
	Error *jetstream.APIError `json:"error"`
}

// readAck reads the answer to n messages. If they were not stored, watch finds out what does not work.
func (r *Replica) readAck(m *nats.Msg, n int, err error) (ack pubAck, _ error) {
	if err == nil {
		err = json.Unmarshal(m.Data, &ack)
	}
	switch {
	case m != nil && m.Header.Get("Status") != "":
		err = jetstream.ErrNoStreamResponse
	case err != nil:
	case ack.Error != nil:
		err = ack.Error
	case ack.Stream != r.cfg.Stream:
		err = fmt.Errorf("the stream %q has taken a message of %q", ack.Stream, r.cfg.Stream)
	case n > 1 && ack.Count != n:
		err = fmt.Errorf("publish a batch: NATS stored %d of %d messages", ack.Count, n)
	}
	switch {
	case err == nil && r.problemOf(publishing) != "":
		r.answered()
		r.report(publishing, "")
	case err == nil, isRefusal(err, tooLarge, changed, inFlight, underWay, noTTL), errors.Is(err, nats.ErrMaxPayload), errors.Is(err, errNotFollowed):
	default:
		select {
		case r.doubts <- struct{}{}:
		default: // it has a value
		}
	}
	return ack, err
}

// request sends a request of this round.
func (c *committer) request(m *nats.Msg, answer func(m *nats.Msg, err error) (more bool)) {
	c.sent++
	m.Reply = c.inbox + strconv.FormatUint(c.sent, 10)
	if err := c.nc.PublishMsg(m); err != nil {
		answer(nil, err)
		return
	}
	c.open[m.Reply] = &open{c.round, time.Now(), answer}
	c.left++
}

// handle takes a message with which NATS answers.
func (c *committer) handle(m *nats.Msg) {
	o := c.open[m.Subject]
	if o == nil || o.answer(m, nil) {
		return
	}
	delete(c.open, m.Subject)
	if o.round == c.round {
		c.left--
	}
}

// expire gives up the requests that have had no answer for that long.
func (c *committer) expire(silence time.Duration, why error) {
	for subject, o := range c.open {
		if time.Since(o.sent) >= silence {
			delete(c.open, subject)
			o.answer(nil, why)
		}
	}
}
