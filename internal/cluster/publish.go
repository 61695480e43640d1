package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"gin-sse/internal/event"
	"gin-sse/internal/idempotency"
)

// publishWait is how long a message may take to be stored, over all attempts.
const publishWait = 5 * time.Second

// ErrAway is why a message could not be stored: NATS cannot be reached, has no leader at the moment or refuses to store
// anything, or the replica is stopping. If only the answer was lost, the message is stored all the same.
var ErrAway = errors.New("NATS did not store it in time")

// Publish stores messages in the stream, in this order. It returns how many it stored, and the id of the last one. A
// message that has the End mark and no data ends its topic without an event.
//
// A key that was used in the last two minutes stores nothing and stands for the original id. If it was used for another
// message, the error is event.ErrKeyReused. An empty key means no key. The error is event.ErrEnded if the topic has
// ended, event.ErrTooLarge if NATS does not accept a message of this size, event.ErrClosed after Close, and ErrAway after
// 5 s without success.
func (r *Replica) Publish(ctx context.Context, messages ...event.Message) (kept int, id string, err error) {
	if r.stopping.Err() != nil {
		return 0, "", event.ErrClosed
	}
	all := make([]outgoing, 0, len(messages))
	for _, m := range messages {
		all = append(all, encode(r.cfg.Stream, m))
	}
	for kept < len(all) {
		n, number, err := r.advance(ctx, all[kept:])
		if err != nil {
			return kept, id, err
		}
		kept, id = kept+n, r.events.ID(number)
	}
	return kept, id, nil
}

// outgoing is a message on its way into the stream.
type outgoing struct {
	*nats.Msg
	event.Message
	receipt string // the subject of its key's receipt, or empty
	line    int    // of an upload with a key, or 0
	tried   bool   // it may have been stored by an attempt whose answer was lost
	ask     bool   // NATS refused it because the replica supposed something wrong: ask NATS first the next time
	ended   bool   // its topic has ended, but the message may have been stored before that
}

// encode returns the message as NATS stores it.
func encode(stream string, m event.Message) outgoing {
	o := outgoing{Msg: nats.NewMsg(subjectOf(stream, m.Topic)), Message: m}
	once := m.Key
	if once == "" {
		once = nuid.Next() // an attempt after a lost answer must not store the message twice
	} else {
		o.receipt, o.line = receiptOf(stream, m.Key)
	}
	o.Header.Set(jetstream.MsgIDHeader, once)
	if m.Name != "" {
		o.Header.Set(nameHeader, m.Name)
	}
	if m.End {
		o.Header.Set(endHeader, "true")
	}
	if m.Replace {
		o.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	}
	o.Msg.Data = m.Data
	return o
}

// expect makes NATS store the message only if the last message on a subject has that number, or if there is none and the
// number is 0. The empty subject means that NATS expects nothing.
func (o *outgoing) expect(subject string, newest uint64) {
	delete(o.Header, jetstream.ExpectedLastSubjSeqSubjHeader)
	delete(o.Header, jetstream.ExpectedLastSubjSeqHeader)
	if subject != "" {
		o.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(newest, 10))
	}
	if subject != "" && subject != o.Subject {
		o.Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, subject)
	}
}

// probe returns a post that stores the key of a message alone, on a subject that belongs to no topic: NATS then tells
// whether it knows the key, and no subscriber gets a message.
func (r *Replica) probe(o *outgoing) *post {
	m := nats.NewMsg(r.cfg.Stream + "." + endedToken)
	m.Header.Set(jetstream.MsgIDHeader, o.Header.Get(jetstream.MsgIDHeader))
	return &post{messages: []outgoing{{Msg: m}}, endKnown: true}
}

// advance stores the first of the messages, and as many of the following as it can together with it, over as many
// attempts as fit into 5 s. So no message is stored after one that is missing.
func (r *Replica) advance(ctx context.Context, messages []outgoing) (n int, number uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	together := r.batchable(messages)
	for why := "no answer"; ; {
		n, number, err = r.attempt(ctx, messages[:together])
		switch {
		case err == nil, errors.Is(err, event.ErrEnded), errors.Is(err, event.ErrKeyReused):
			return n, number, err
		case errors.Is(err, errAskFirst):
			continue
		case together > 1 && ctx.Err() == nil: // a batch that NATS refuses, or does not answer, is no reason to give up: its first message goes alone
			together = 1
			continue
		case errors.Is(err, nats.ErrMaxPayload), isRefusal(err, tooLarge):
			return 0, 0, event.ErrTooLarge
		case !errors.Is(err, context.DeadlineExceeded):
			why = cause(err)
		}
		select {
		case <-time.After(retryWait):
			continue
		case <-r.stopping.Done():
			why = "this server is stopping"
		case <-ctx.Done():
		}
		return 0, 0, fmt.Errorf("%w: %s", ErrAway, why)
	}
}

var (
	// errNotFollowed is why nothing is published while the stream is not followed: the stream may have lost
	// messages, and then this replica would return ids of an epoch that is over.
	errNotFollowed = errors.New("the stream is not followed")

	// errAskFirst says that NATS refused a message because something in the stream is not as the replica supposed.
	errAskFirst = errors.New("the stream has changed")
)

// Codes of JetStream.
const (
	tooLarge = 10054 // the message is larger than the stream accepts
	changed  = 10071 // the last message on a subject is not the one that was expected
	inFlight = 10164 // another message to the subject is being stored
	underWay = 10158 // another message with the key is being stored
	noTTL    = 10166 // the stream takes no messages that NATS drops after a while
)

// isRefusal reports whether NATS answered with one of these codes.
func isRefusal(err error, codes ...jetstream.ErrorCode) bool {
	var refused *jetstream.APIError
	return errors.As(err, &refused) && slices.Contains(codes, refused.ErrorCode)
}

// attempt makes one attempt to store messages: one, or several as a batch. It returns how many are stored. If the first one
// was stored before, that is one.
func (r *Replica) attempt(ctx context.Context, messages []outgoing) (n int, number uint64, err error) {
	o, p := &messages[0], &post{messages: messages}
	receipts, found := o.receipt != "" && r.receipts.Load(), receipt{}
	if receipts && (o.line > 0 || o.ask || o.ended) { // otherwise the committer finds out that there is none
		if found, err = r.findReceipt(ctx, o); err != nil {
			return 0, 0, err
		}
	}
	wasStored := found.number > 0 && found.line >= o.line
	switch {
	case wasStored && found.line == o.line && found.digest != idempotency.Sum(o.Message):
		return 0, 0, event.ErrKeyReused
	case wasStored && found.line == o.line:
		return 1, found.number, nil
	case wasStored, o.ended:
		p = r.probe(o)
	}
	err = r.wait(ctx, p)
	if err == nil && p.repeated && (o.Key != "" || o.ended) { // with o.ended, an earlier probe may have stored the key
		if err = r.compare(ctx, p.number, o.Msg); err == nil && receipts && !wasStored {
			err = r.wait(ctx, &post{messages: messages[:1], number: p.number})
		}
	}
	switch isEnd := errors.Is(err, event.ErrEnded); {
	case wasStored && (isEnd || err == nil && !p.repeated): // NATS no longer knows the line, or only from a probe
		return 1, found.number, nil
	case o.ended && err == nil && !p.repeated:
		return 0, 0, event.ErrEnded
	case isEnd && !o.ended && (o.Key != "" || o.tried): // it may have been stored before the end
		o.ended = true
		return r.attempt(ctx, messages[:1])
	}
	return len(p.messages), p.number, err
}

// wait gives a post to the committer, and waits for it.
func (r *Replica) wait(ctx context.Context, p *post) error {
	p.done = make(chan error, 1)
	select {
	case r.posts <- p:
	case <-ctx.Done():
		if !r.isFollowing() {
			return errNotFollowed
		}
		return ctx.Err()
	case <-r.stopping.Done():
		return errNotFollowed
	}
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// compare returns event.ErrKeyReused if the message with that number is a different one. If it is no longer in the
// stream, it counts as the same.
func (r *Replica) compare(ctx context.Context, number uint64, message *nats.Msg) error {
	was, err := r.get(ctx, request{Seq: number})
	switch {
	case errors.Is(err, errGone):
		return nil
	case err != nil:
		return err
	case was.subject == r.cfg.Stream+"."+endedToken:
		return event.ErrEnded
	case was.subject != message.Subject || !bytes.Equal(was.Data, message.Data) ||
		slices.ContainsFunc([]string{nameHeader, endHeader, jetstream.MsgRollup}, func(name string) bool { return was.Header.Get(name) != message.Header.Get(name) }):
		return event.ErrKeyReused
	}
	return nil
}
