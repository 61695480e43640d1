package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"gin-sse/internal/event"
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
// ended, event.ErrTooLarge if NATS does not accept a message of this size, and ErrAway after 5 s without success.
func (r *Replica) Publish(ctx context.Context, messages ...event.Message) (kept int, id string, err error) {
	all := make([]outgoing, 0, len(messages))
	for _, m := range messages {
		all = append(all, encode(r.cfg.Stream, m))
	}
	for together := true; kept < len(all); {
		n, number, isNew, problem := r.advance(ctx, all[kept:], together)
		if problem != nil {
			return kept, id, problem
		}
		kept, id = kept+n, r.events.ID(number)
		together = isNew // NATS refuses a batch that repeats one key; what follows a repeated key is often repeated too
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
	ask     bool   // NATS refused it because the replica supposed something wrong, and has to be asked
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

// advance stores the first of the messages, and as many of the following as it can together with it, over as many
// attempts as fit into 5 s. So no message is stored after one that is missing. isNew is false if the key of the first
// message was used before.
func (r *Replica) advance(ctx context.Context, messages []outgoing, together bool) (n int, number uint64, isNew bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	for why := "no answer"; ; {
		if err = errNotFollowed; r.isFollowing() {
			n, number, isNew, err = r.attempt(ctx, messages, together)
		}
		switch {
		case err == nil, errors.Is(err, event.ErrEnded), errors.Is(err, event.ErrKeyReused):
			return n, number, isNew, err
		case errors.Is(err, errAskFirst):
			continue
		case together: // a batch that NATS refuses, or does not answer, is no reason to give up: its first message goes alone
			together = false
			continue
		case errors.Is(err, nats.ErrMaxPayload), isRefusal(err, tooLarge):
			return 0, 0, false, event.ErrTooLarge
		case !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, jetstream.ErrAsyncPublishTimeout):
			why = cause(err)
		}
		select {
		case <-time.After(retryWait):
			continue
		case <-r.stopping.Done():
			why = "this server is stopping"
		case <-ctx.Done():
		}
		return 0, 0, false, fmt.Errorf("%w: %s", ErrAway, why)
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

// attempt stores the first of the messages, and those that can go together with it, unless its topic has ended.
func (r *Replica) attempt(ctx context.Context, messages []outgoing, together bool) (n int, number uint64, isNew bool, err error) {
	o := &messages[0]
	o.expect("", 0)
	covers := r.Covers(o.Topic)
	ended := r.events.Ended(o.Topic)
	switch {
	case o.Erases():
		return r.storeSome(ctx, messages, together, false)
	case covers && r.Covers(o.Topic): // still: the hub forgets the end of a topic that it no longer has
		return r.storeSome(ctx, messages, together, ended)
	case o.tried: // alone, as its group knew
		_, ended, err := r.lastOf(ctx, o.Topic)
		if err != nil {
			return 0, 0, false, err
		}
		return r.storeSome(ctx, messages, together, ended)
	}
	g, isFirst, err := r.published.join(ctx, o.Topic)
	if err != nil {
		return 0, 0, false, err
	}
	defer func() {
		newest := number
		if !isNew || messages[n-1].End {
			newest = 0
		}
		r.published.leave(g, newest)
	}()
	if newest, likely := r.published.guess(g); isFirst && likely && o.Key == "" {
		o.expect(o.Subject, newest)
		if n, number, isNew, err = r.storeSome(ctx, messages, together, false); err == nil {
			g.tell(false, nil)
			return n, number, isNew, nil
		}
		o.expect("", 0)
	}
	if isFirst {
		problem := r.ask(ctx, g, o.Topic)
		if err == nil || errors.Is(err, errAskFirst) {
			err = problem
		}
		if err != nil {
			return 0, 0, false, err
		}
	}
	return r.storeSome(ctx, messages, together, g.ended)
}

// storeSome is attempt, once it is known whether the topic has ended.
func (r *Replica) storeSome(ctx context.Context, messages []outgoing, together, ended bool) (n int, number uint64, isNew bool, err error) {
	o := &messages[0]
	if ended && o.Key == "" && !o.tried { // an earlier attempt may have stored it, and this very message may have ended the topic
		return 0, 0, false, event.ErrEnded
	}
	receipts := o.receipt != "" && r.receipts.Load()
	if receipts && !o.ask && o.line == 0 {
		o.expect(o.receipt, 0)
	} else if receipts {
		found, is, err := r.findReceipt(ctx, o)
		if err != nil {
			return 0, 0, false, err
		}
		if is && found.line >= o.line {
			number, err = r.recall(ctx, o, found)
			return 1, number, false, err
		}
	}
	if n = r.batchable(messages); together && !ended && n > 1 {
		number, err = r.storeBatch(ctx, messages[:n], receipts)
		return n, number, err == nil, err
	}
	number, isNew, err = r.store(ctx, o, ended)
	if err == nil && receipts {
		err = r.leaveReceipt(ctx, o, number)
	}
	return 1, number, isNew, err
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

// store makes one attempt. For a topic that has ended, it stores the key alone, on a subject that belongs to no
// topic: NATS then tells whether the key was used before, and no subscriber gets a message.
func (r *Replica) store(ctx context.Context, o *outgoing, ended bool) (number uint64, isNew bool, err error) {
	send, tried := o.Msg, o.tried
	if o.tried = true; ended {
		send = &nats.Msg{Subject: r.cfg.Stream + "." + endedToken, Header: maps.Clone(o.Header)}
		delete(send.Header, endHeader)
		delete(send.Header, jetstream.MsgRollup)
	}
	_, _, known := r.truth.now()
	ack, err := r.send(ctx, send)
	if r.stored(err); err == nil {
		err = r.acknowledged(known, ack.Sequence, o, ack.Duplicate)
	}
	switch {
	case isRefusal(err, changed, inFlight):
		o.ask, o.tried = true, tried
		return 0, false, errAskFirst
	case err != nil:
		return 0, false, err
	case ack.Duplicate && o.Key != "":
		if err := r.compare(ctx, ack.Sequence, o.Msg); err != nil {
			return 0, false, err
		}
	case ended:
		return 0, false, event.ErrEnded
	}
	return ack.Sequence, !ack.Duplicate, nil
}

// send publishes a message and waits until it is stored, for 2 s at most.
func (r *Replica) send(ctx context.Context, m *nats.Msg) (*jetstream.PubAck, error) {
	published, err := r.js.PublishMsgAsync(m)
	if err != nil {
		return nil, err
	}
	select {
	case ack := <-published.Ok():
		if ack.Stream != r.cfg.Stream {
			return nil, fmt.Errorf("the stream %q has taken a message of %q", ack.Stream, r.cfg.Stream)
		}
		return ack, nil
	case err := <-published.Err():
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
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

// stored takes note of whether NATS stored a message. If it did not, watch finds out what does not work.
func (r *Replica) stored(err error) {
	switch {
	case err == nil && r.problemOf(publishing) != "":
		r.answered()
		r.report(publishing, "")
	case err == nil, isRefusal(err, tooLarge, changed, inFlight, underWay), errors.Is(err, nats.ErrMaxPayload), errors.Is(err, context.Canceled):
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
