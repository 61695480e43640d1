package cluster

import (
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

// All messages of a replica go through one goroutine, the committer. It works in rounds: whatever waits takes its next
// step, all at once, and the next round begins when NATS has answered everything. A message takes up to three steps:
//
//  1. Ask what must be known before it is stored: whether its topic has ended, and whether its key was used before. A
//     replica whose clients follow the topic knows the first. And NATS itself can check one thing along with the message:
//     that the topic's newest message is still the one which this replica has published, or that the key has no receipt.
//     So most messages need no question.
//  2. Store the message, or several of an upload as a batch.
//  3. Store the receipt of its key.
//
// What NATS does not answer soon is left to itself, so that it does not hold up the others.

const (
	maxRound     = 1000                  // posts that take a step together; NATS takes 1,024 subjects in a question
	maxOpen      = 16 << 10              // requests that NATS has not answered yet
	roundWait    = 20 * time.Millisecond // for the answers of a round, before the next one begins
	maxPublished = 10_000                // topics of which the newest message is remembered
)

// post is what a publisher waits for: a message on its way into the stream, or several that are one batch. Its fields
// belong to the committer until it is done.
type post struct {
	messages []outgoing
	endKnown bool   // the topic has not ended
	isUnused bool   // the key has no receipt
	number   uint64 // with which the message was stored, the last one of a batch; all that is left is the receipt
	repeated bool   // NATS knew the key: the message was stored before
	done     chan error
}

// committer is the part of a session that publishes.
type committer struct {
	*session
	inbox   string
	replies chan *nats.Msg
	ready   []*post          // those that take a step in the next round
	tails   map[string]*tail // by subject
	open    map[string]*open // by the subject of the reply
	sent    uint64           // requests, ever
	round   int
	left    int    // how many requests of this round are open
	known   uint64 // the highest number when the round began
}

// tail is the end of a topic.
type tail struct {
	newest uint64 // number of the newest message that was published here, unless it ended the topic, or 0
	likely bool   // it is probably the topic's newest message
}

// open is a request that NATS has not answered yet.
type open struct {
	round  int
	sent   time.Time
	answer func(m *nats.Msg, err error) (more bool) // more: another message belongs to the answer
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
	defer func() {
		_ = live.Unsubscribe() // fails only if the connection is closed
		c.expire(0, errNotFollowed)
		for _, p := range c.ready {
			p.done <- errNotFollowed
		}
	}()
	late := time.NewTimer(0)
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
			c.left = 0
			c.round++
			if c.expire(answerWait, context.DeadlineExceeded); len(c.open) > 0 {
				late.Reset(roundWait)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// begin begins a round.
func (c *committer) begin() {
	c.round++
	_, _, c.known = c.truth.now()
	n := min(len(c.ready), maxRound)
	posts := slices.Clone(c.ready[:n])
	c.ready = slices.Delete(c.ready, 0, n)
	together := map[string]int{} // how many posts of the round there are for each subject
	for _, p := range posts {
		together[p.messages[0].Subject]++
	}
	ends, receipts := map[string][]*post{}, map[string][]*post{} // what to ask, and for which posts
	for _, p := range posts {
		o := &p.messages[0]
		known, ended := c.isKnown(p)
		tail := c.tails[o.Subject]
		mayExpect := tail != nil && tail.likely && !o.ask && together[o.Subject] == 1
		checkKey := o.receipt != "" && o.line == 0 && !o.ask && !p.isUnused && c.receipts.Load()
		switch {
		case p.number > 0:
			c.leaveReceipt(p)
		case ended:
			p.done <- event.ErrEnded
		case !known && !mayExpect:
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
		c.askEnd(subject, posts)
	}
	if len(receipts) > 0 {
		c.askReceipts(receipts)
	}
}

// isKnown reports whether it is known that the topic of a post has ended or has not. If the replica's clients follow the
// topic, the hub knows.
func (c *committer) isKnown(p *post) (known, ended bool) {
	o := &p.messages[0]
	if p.endKnown || o.Erases() {
		return true, false
	}
	covers := c.Covers(o.Topic)
	ended = c.events.Ended(o.Topic)
	if covers && c.Covers(o.Topic) { // still: the hub forgets the end of a topic that it no longer has
		return true, ended
	}
	return false, false
}

// askEnd asks whether a topic has ended.
func (c *committer) askEnd(subject string, posts []*post) {
	c.ask(request{LastFor: subject}, func(m *nats.Msg, err error) bool {
		var number uint64
		ended := false
		if err == nil && last(m, jetstream.SequenceHeader) != "" {
			ended, err = last(m, endHeader) == "true", parse(m, jetstream.SequenceHeader, &number)
		}
		if c.tails[subject] == nil {
			if len(c.tails) >= maxPublished {
				clear(c.tails)
			}
			c.tails[subject] = &tail{}
		}
		c.tails[subject].likely = err == nil && !ended && number == c.tails[subject].newest
		for _, p := range posts {
			switch {
			case err != nil:
				p.done <- err
			case ended:
				p.done <- event.ErrEnded
			default:
				p.endKnown = true
				c.ready = append(c.ready, p)
			}
		}
		return false
	})
}

// askReceipts asks which keys have receipts.
func (c *committer) askReceipts(posts map[string][]*post) {
	c.ask(request{MultiLast: slices.Collect(maps.Keys(posts))}, func(m *nats.Msg, err error) (more bool) {
		if err == nil && last(m, jetstream.SequenceHeader) != "" {
			subject := last(m, jetstream.SubjectHeader)
			for _, p := range posts[subject] {
				p.messages[0].ask = true
				p.done <- errAskFirst
			}
			delete(posts, subject)
			return true
		}
		for _, posts := range posts {
			for _, p := range posts {
				if err != nil {
					p.done <- err
					continue
				}
				p.isUnused = true
				c.ready = append(c.ready, p)
			}
		}
		return false
	})
}

// ask asks for messages of the stream. Any server that has the stream may answer, even one that is behind the leader.
func (c *committer) ask(what request, answer func(m *nats.Msg, err error) (more bool)) {
	question := &nats.Msg{Subject: "$JS.API.DIRECT.GET." + c.cfg.Stream}
	var err error
	if question.Data, err = json.Marshal(what); err != nil {
		answer(nil, fmt.Errorf("encode request: %w", err))
		return
	}
	c.request(question, func(m *nats.Msg, err error) bool {
		if err == nil && last(m, jetstream.SequenceHeader) == "" {
			if status := m.Header.Get("Status"); status != "404" && status != "204" {
				err = fmt.Errorf("ask for a message: %s %s", status, m.Header.Get("Description"))
			}
		}
		return answer(m, err)
	})
}

// store stores a post, unless the last message on a subject has another number than this one.
func (c *committer) store(p *post, subject string, newest uint64) {
	p.messages[0].expect(subject, newest)
	all := []*nats.Msg{p.messages[0].Msg}
	if len(p.messages) > 1 {
		all = c.batch(p.messages)
	}
	known := c.known
	for i, m := range all {
		if i == len(all)-1 {
			c.request(m, func(m *nats.Msg, err error) bool {
				c.stored(p, known, len(all), m, err)
				return false
			})
		} else if err := c.nc.PublishMsg(m); err != nil {
			p.done <- err
			return
		}
	}
}

// stored takes note of how NATS answered to a post of so many messages, together with a receipt. known is the highest
// number that was known when they were sent.
func (c *committer) stored(p *post, known uint64, n int, m *nats.Msg, err error) {
	first, final := &p.messages[0], &p.messages[len(p.messages)-1]
	for i := range p.messages {
		p.messages[i].tried = p.messages[i].tried || err != nil
	}
	var ack pubAck
	if err == nil {
		ack, err = c.readAck(m, n)
	}
	c.doubt(err)
	if err == nil {
		ack.Sequence -= uint64(n - len(p.messages)) // without the receipt
		err = c.acknowledged(known, ack.Sequence+1-uint64(len(p.messages)), first, ack.Duplicate)
	}
	if err == nil && n > 1 {
		err = c.acknowledged(0, ack.Sequence, final, false)
	}
	tail := c.tails[first.Subject]
	switch {
	case isRefusal(err, changed, inFlight):
		if first.ask = true; tail != nil {
			tail.likely = false
		}
		err = errAskFirst
	case isRefusal(err, batchesOff):
		c.batches.Store(false)
	case err != nil:
	case ack.Duplicate:
		p.number, p.repeated = ack.Sequence, true
	default:
		if p.number = ack.Sequence; tail != nil && !final.End {
			tail.newest = max(tail.newest, p.number)
		}
		if n == 1 && first.receipt != "" && c.receipts.Load() {
			c.ready = append(c.ready, p)
			return
		}
	}
	p.done <- err
}

// leaveReceipt stores the receipt of a message that was stored.
func (c *committer) leaveReceipt(p *post) {
	c.request(c.receiptFor(&p.messages[0], p.number), func(m *nats.Msg, err error) bool {
		if err == nil {
			_, err = c.readAck(m, 1)
		}
		if isRefusal(err, noTTL) {
			c.receipts.Store(false) // somebody has made the stream anew
			err = nil
		}
		c.doubt(err)
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

// readAck reads the answer to so many messages.
func (r *Replica) readAck(m *nats.Msg, n int) (ack pubAck, err error) {
	switch err = json.Unmarshal(m.Data, &ack); {
	case m.Header.Get("Status") != "":
		return ack, jetstream.ErrNoStreamResponse
	case err != nil:
		return ack, fmt.Errorf("publish: %w", err)
	case ack.Error != nil:
		return ack, ack.Error
	case ack.Stream != r.cfg.Stream:
		return ack, fmt.Errorf("the stream %q has taken a message of %q", ack.Stream, r.cfg.Stream)
	case n > 1 && ack.Count != n:
		return ack, fmt.Errorf("publish a batch: NATS stored %d of %d messages", ack.Count, n)
	}
	return ack, nil
}

// doubt takes note of whether NATS stored a message. If it did not, watch finds out what does not work.
func (r *Replica) doubt(err error) {
	switch {
	case err == nil && r.problemOf(publishing) != "":
		r.answered()
		r.report(publishing, "")
	case err == nil, isRefusal(err, tooLarge, changed, inFlight, underWay), errors.Is(err, nats.ErrMaxPayload), errors.Is(err, errNotFollowed):
	default:
		select {
		case r.doubts <- struct{}{}:
		default: // it has a value
		}
	}
}

// acknowledged takes note of the number that NATS gave to a message. known is the highest number that was known when the
// message was sent. If the number shows that the stream has lost messages, the session ends, and the number must not be
// given to anybody.
func (r *Replica) acknowledged(known, number uint64, o *outgoing, duplicate bool) error {
	if duplicate {
		known = 0
	}
	if r.truth.learn(answer{source: acknowledgement, place: place{number: number, key: o.Header.Get(jetstream.MsgIDHeader)}, known: known}) == wentBack {
		r.endSession(errReplaced)
		return errReplaced
	}
	return nil
}

// request sends a request of this round. answer is called with each message that NATS answers with, or with an error.
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

// handle takes a message that NATS answers with.
func (c *committer) handle(m *nats.Msg) {
	q := c.open[m.Subject]
	if q == nil || q.answer(m, nil) {
		return
	}
	delete(c.open, m.Subject)
	if q.round == c.round {
		c.left--
	}
}

// expire gives up the requests that NATS has not answered for that long.
func (c *committer) expire(silence time.Duration, why error) {
	for subject, q := range c.open {
		if time.Since(q.sent) >= silence {
			delete(c.open, subject)
			q.answer(nil, why)
		}
	}
}
