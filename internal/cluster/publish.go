package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"gin-sse/internal/event"
)

const (
	publishWait = 5 * time.Second // for a message to be stored, over all attempts
	stopWait    = time.Second     // for publishing to end when the replica stops
)

// ErrAway is why a message could not be stored: NATS cannot be reached, or has no leader at the moment, or the
// replica is stopping. If only the answer was lost, the message is stored all the same.
var ErrAway = errors.New("NATS did not store it in time")

// Publish stores messages in the stream, in this order. It returns how many it stored, and the id of the last one. A
// message that has the End mark and no data ends its topic without an event.
//
// A key that was used in the last two minutes (more precisely, in the stream's duplicate window) stores nothing
// and stands for the original id. If it was used for another message, the error is event.ErrKeyReused. An empty key
// means no key. The error is event.ErrEnded if this replica knows that the topic has ended, event.ErrTooLarge if
// NATS does not accept a message of this size, and ErrAway after 5 s without success.
func (r *Replica) Publish(ctx context.Context, messages ...event.Message) (kept int, id string, err error) {
	all := make([]outgoing, 0, len(messages))
	for _, m := range messages {
		o, problem := encode(r.cfg.Stream, m)
		if problem != nil {
			err = problem // those before it go first
			break
		}
		all = append(all, o)
	}
	for together := true; kept < len(all); {
		n, next, isNew, problem := r.advance(ctx, all[kept:], together)
		if problem != nil {
			return kept, id, problem
		}
		kept, id = kept+n, next
		together = isNew // NATS refuses a batch that repeats one key; what follows a repeated key is often repeated too
	}
	return kept, id, err
}

// outgoing is a message on its way into the stream.
type outgoing struct {
	*nats.Msg
	topic  string
	once   string // its key, or one made up: an attempt after a lost answer must not store the message twice
	keyed  bool   // the publisher gave the key
	end    bool   // it ends its topic
	alone  bool   // it replaces others, which NATS does not do in a batch
	erases bool   // it leaves nothing of its topic but the end
	tried  bool   // it may have been stored by an attempt whose answer was lost
}

// advance stores the first of the messages, and as many of the following as it can together with it. A batch that
// NATS refuses, or does not answer, is no reason to give up: its first message is then stored alone, over as many
// attempts as fit into 5 s. So no message is stored after one that is missing. isNew is false if the key of that
// first message was used before.
func (r *Replica) advance(ctx context.Context, messages []outgoing, together bool) (n int, id string, isNew bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	defer context.AfterFunc(r.stopping, func() { time.AfterFunc(stopWait, cancel) })()

	if together && r.isFollowing() {
		if n = r.batchable(ctx, messages); n > 1 {
			if id, err = r.storeBatch(ctx, messages[:n]); err == nil {
				return n, id, true, nil
			}
		}
	}
	id, isNew, err = r.publish(ctx, &messages[0])
	return 1, id, isNew, err
}

// publish stores one message. It tries until ctx ends.
func (r *Replica) publish(ctx context.Context, o *outgoing) (id string, isNew bool, err error) {
	for ended := false; ; {
		if err = errNotFollowed; r.isFollowing() {
			if err = nil; !o.tried { // later, this very message may have ended the topic
				ended, err = r.ended(ctx, o.topic)
			}
			if ended = ended && !o.erases; ended && !o.keyed {
				return "", false, event.ErrEnded
			}
			if err == nil {
				o.tried = true
				id, isNew, err = r.store(ctx, o, ended)
			}
		}
		var refused *jetstream.APIError
		switch {
		case err == nil, errors.Is(err, event.ErrEnded), errors.Is(err, event.ErrKeyReused):
			return id, isNew, err
		case errors.Is(err, nats.ErrMaxPayload), errors.As(err, &refused) && refused.ErrorCode == tooLarge:
			return "", false, event.ErrTooLarge
		}
		select {
		case <-ctx.Done():
			return "", false, ErrAway
		case <-time.After(retryWait):
		}
	}
}

// ended reports whether the topic has ended. That may be some milliseconds old.
func (r *Replica) ended(ctx context.Context, topic string) (bool, error) {
	if r.Covers(topic) {
		return r.events.Ended(topic), nil
	}
	m, err := r.last(ctx, subjectOf(r.cfg.Stream, topic))
	if errors.Is(err, errGone) {
		return false, nil
	}
	return err == nil && last(m, endHeader) == "true", err
}

// errNotFollowed is why nothing is published while the stream is not followed: the stream may have lost
// messages, and then this replica would return ids of an epoch that is over.
var errNotFollowed = errors.New("the stream is not followed")

// tooLarge is JetStream's code for a message that is larger than the stream accepts.
const tooLarge = 10054

// encode returns the message as NATS stores it.
func encode(stream string, m event.Message) (outgoing, error) {
	o := outgoing{Msg: nats.NewMsg(subjectOf(stream, m.Topic)), topic: m.Topic, once: m.Key, keyed: m.Key != "", end: m.End, alone: m.Replace, erases: m.Erases()}
	if !o.keyed {
		o.once = nuid.Next()
	}
	if m.Name != "" {
		o.Header.Set(nameHeader, m.Name)
	}
	if m.End {
		o.Header.Set(endHeader, "true")
	}
	if m.Replace {
		o.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	}
	if m.End && len(m.Data) == 0 {
		return o, nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, m.Data); err != nil {
		return outgoing{}, fmt.Errorf("encode message: %w", err)
	}
	o.Data = compact.Bytes()
	return o, nil
}

// store makes one attempt. For a topic that has ended, it stores the key alone, on a subject that belongs to no
// topic: NATS then tells whether the key was used before, and no subscriber gets a message.
func (r *Replica) store(ctx context.Context, o *outgoing, ended bool) (id string, isNew bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	send := o.Msg
	if ended {
		send = nats.NewMsg(r.cfg.Stream + "." + endedToken)
	}
	_, _, known := r.truth.now()
	ack, err := r.js.PublishMsg(ctx, send, jetstream.WithMsgID(o.once), jetstream.WithExpectStream(r.cfg.Stream), jetstream.WithRetryAttempts(0))
	if r.stored(err); err == nil {
		err = r.acknowledged(known.number, ack.Sequence, o.once, ack.Duplicate)
	}
	switch {
	case err != nil:
		return "", false, err
	case ack.Duplicate && o.keyed:
		err = r.compare(ctx, ack.Sequence, o.Msg)
	case ended:
		err = event.ErrEnded
	}
	if err != nil {
		return "", false, err
	}
	return r.events.ID(ack.Sequence), !ack.Duplicate, nil
}

// stored takes note of whether NATS stored a message. If it did not, watch finds out what does not work.
func (r *Replica) stored(err error) {
	switch {
	case err == nil && r.problemOf(publishing) != "":
		r.report(publishing, "")
	case err != nil:
		select {
		case r.doubts <- struct{}{}:
		default: // it has a value
		}
	}
}

// acknowledged takes note of the number that NATS gave to a message. known is the highest number that was known when the
// message was sent. If the number shows that the stream has lost messages, the session ends, and the number must not be
// given to anybody.
func (r *Replica) acknowledged(known, number uint64, key string, duplicate bool) error {
	if duplicate {
		known = 0
	}
	if r.truth.learn(answer{source: acknowledgement, place: place{number: number, key: key}, known: known}) == wentBack {
		r.interrupt(errReplaced)
		return errReplaced
	}
	return nil
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
	case was.Subject == r.cfg.Stream+"."+endedToken:
		return event.ErrEnded
	case was.Subject != message.Subject || !bytes.Equal(was.Data, message.Data) ||
		slices.ContainsFunc([]string{nameHeader, endHeader, jetstream.MsgRollup}, func(name string) bool { return was.header(name) != message.Header.Get(name) }):
		return event.ErrKeyReused
	}
	return nil
}
