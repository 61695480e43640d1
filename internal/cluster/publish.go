package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"gin-sse/internal/hub"
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
// and stands for the original id. If it was used for another message, the error is hub.ErrKeyReused. An empty key
// means no key. The error is hub.ErrEnded if this replica knows that the topic has ended, hub.ErrTooLarge if
// NATS does not accept a message of this size, and ErrAway after 5 s without success.
func (r *Replica) Publish(ctx context.Context, messages ...hub.Message) (kept int, id string, err error) {
	for i, m := range messages {
		next, err := r.publish(ctx, m)
		if err != nil {
			return i, id, err
		}
		id = next
	}
	return len(messages), id, nil
}

func (r *Replica) publish(ctx context.Context, m hub.Message) (id string, err error) {
	key := m.Key
	message, err := encode(r.cfg.Stream, m)
	if err != nil {
		return "", err
	}
	once := key
	if once == "" {
		once = nuid.Next() // an attempt after a lost answer must not store the message twice
	}
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	defer context.AfterFunc(r.stopping, func() { time.AfterFunc(stopWait, cancel) })()

	for tried, ended := false, false; ; {
		following := r.following()
		if err = errNotFollowed; following {
			if !tried { // later, this very message may have ended the topic
				ended = r.events.Ended(m.Topic)
			}
			if ended && key == "" {
				return "", hub.ErrEnded
			}
			tried = true
			id, err = r.store(ctx, once, message, ended)
		}
		var refused *jetstream.APIError
		switch {
		case err == nil, errors.Is(err, hub.ErrEnded) && key != "", errors.Is(err, hub.ErrKeyReused):
			return id, err
		case errors.Is(err, nats.ErrMaxPayload), errors.As(err, &refused) && refused.ErrorCode == tooLarge:
			return "", hub.ErrTooLarge
		}
		select {
		case <-ctx.Done():
			if following && r.nc.IsConnected() && errors.Is(ctx.Err(), context.DeadlineExceeded) { // otherwise the publisher has left
				r.tell("NATS did not store a message in time: " + cause(err))
			}
			return "", ErrAway
		case <-time.After(retryWait):
		}
	}
}

// errNotFollowed is why nothing is published while the stream is not followed: the stream may have lost
// messages, and then this replica would return ids of an epoch that is over.
var errNotFollowed = errors.New("the stream is not followed")

// tooLarge is JetStream's code for a message that is larger than the stream accepts.
const tooLarge = 10054

// encode returns the message as NATS stores it.
func encode(stream string, m hub.Message) (*nats.Msg, error) {
	message := nats.NewMsg(subjectOf(stream, m.Topic))
	if m.Name != "" {
		message.Header.Set(nameHeader, m.Name)
	}
	if m.End {
		message.Header.Set(endHeader, "true")
	}
	if m.End && len(m.Data) == 0 {
		return message, nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, m.Data); err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	message.Data = compact.Bytes()
	return message, nil
}

// store makes one attempt. For a topic that has ended, it stores the key alone, on a subject that belongs to no
// topic: NATS then tells whether the key was used before, and no subscriber gets a message.
func (r *Replica) store(ctx context.Context, once string, message *nats.Msg, ended bool) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	send := message
	if ended {
		send = nats.NewMsg(r.cfg.Stream + "." + endedToken)
	}
	ack, err := r.js.PublishMsg(ctx, send, jetstream.WithMsgID(once), jetstream.WithExpectStream(r.cfg.Stream), jetstream.WithRetryAttempts(0))
	switch {
	case err != nil:
		return "", err
	case ack.Duplicate:
		err = r.compare(ctx, ack.Sequence, message)
	case ended:
		err = hub.ErrEnded
	}
	if err != nil {
		return "", err
	}
	return r.events.ID(ack.Sequence), nil
}

// compare returns hub.ErrKeyReused if the message with that number is a different one. If it is no longer in the
// stream, it counts as the same.
func (r *Replica) compare(ctx context.Context, number uint64, message *nats.Msg) error {
	was, err := r.get(ctx, request{Seq: number})
	switch {
	case errors.Is(err, errGone):
		return nil
	case err != nil:
		return err
	case was.Subject == r.cfg.Stream+"."+endedToken:
		return hub.ErrEnded
	case was.Subject != message.Subject || !bytes.Equal(was.Data, message.Data) ||
		was.header(nameHeader) != message.Header.Get(nameHeader) || was.header(endHeader) != message.Header.Get(endHeader):
		return hub.ErrKeyReused
	}
	return nil
}
