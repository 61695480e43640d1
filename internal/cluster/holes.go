package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A number that does not come is a message that the stream dropped before this replica got it. Nothing says to
// which topic the message belonged. But the stream drops a message only when its topic has as many newer ones as
// the stream keeps. So the replica looks ahead and counts: a topic with that many messages after the hole has
// lost some in it. (A topic may have exactly that many and have lost none. Its clients are then told of a gap
// that they do not have.) If there is no such topic, somebody removed messages.

// errHole says that the message that came is not the next one that the last look ahead found.
var errHole = errors.New("messages are missing")

// ahead is what a look ahead found.
type ahead struct {
	numbers []uint64          // of the messages in the stream
	lost    map[string]uint64 // for each subject that lost messages, the number of its first message after them
}

// next reports whether the message with that number is the one to come next: the first one that is left of the
// last look ahead or, if nothing is left of it, the one after the last message.
func (r *Replica) next(number uint64) bool {
	if len(r.ahead) == 0 {
		return number == r.at+1
	}
	if r.ahead[0] != number {
		return false
	}
	if r.ahead = r.ahead[1:]; len(r.ahead) == 0 {
		r.ahead = nil
	}
	return true
}

// lookAhead reads what is in the stream after that number, without its content.
func (r *Replica) lookAhead(ctx context.Context, stream jetstream.Stream, after uint64) (ahead, error) {
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       after + 1,
		AckPolicy:         jetstream.AckNonePolicy,
		HeadersOnly:       true,
		InactiveThreshold: 2 * heartbeat,
		MemoryStorage:     true,
		Replicas:          1,
	})
	if err != nil {
		return ahead{}, fmt.Errorf("create a consumer: %w", err)
	}
	limit := stream.CachedInfo().Config.MaxMsgsPerSubject
	first, count := map[string]uint64{}, map[string]int64{}
	a := ahead{lost: map[string]uint64{}}
	if consumer.CachedInfo().NumPending == 0 {
		return a, nil
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(5000), jetstream.PullExpiry(5*heartbeat),
		jetstream.PullHeartbeat(heartbeat), jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return ahead{}, fmt.Errorf("ask for messages: %w", err)
	}
	defer messages.Stop()
	for got := uint64(1); ; got++ {
		message, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return ahead{}, fmt.Errorf("look ahead: %w", err)
		}
		is, err := message.Metadata()
		if err != nil {
			return ahead{}, fmt.Errorf("not a message of a stream: %w", err)
		}
		if got != is.Sequence.Consumer {
			return ahead{}, errors.New("messages were lost on the way")
		}
		subject, number := message.Subject(), is.Sequence.Stream
		a.numbers = append(a.numbers, number)
		if count[subject]++; count[subject] == 1 && number > after+got { // there is a hole before it
			first[subject] = number
		}
		if number, hole := first[subject]; hole && limit > 0 && count[subject] >= limit {
			a.lost[subject] = number
		}
		if is.NumPending == 0 {
			return a, nil
		}
	}
}

// account looks ahead, and tells the hub what was lost between the last message that came and the next one.
func (r *Replica) account(ctx context.Context, stream jetstream.Stream) error {
	a, err := r.lookAhead(ctx, stream, r.at)
	if err != nil {
		return err
	}
	if len(a.numbers) == 0 { // the node that was asked is behind
		return errHole
	}
	r.ahead = a.numbers
	r.tellLost(a)
	if gone := a.numbers[0] - 1; gone > r.at && len(a.lost) == 0 {
		r.events.LostAll(gone)
		r.cfg.Log("NATS: messages up to number %d were removed from the stream %q; clients that miss them are told of a gap", gone, r.cfg.Stream)
		r.at, r.stamp = gone, time.Time{}
	}
	return nil
}

// tellLost tells the hub of topics that lost messages.
func (r *Replica) tellLost(a ahead) {
	for subject, first := range a.lost {
		if topic, is := topicOf(r.cfg.Stream, subject); is {
			r.events.Lost(topic, first-1)
		}
	}
}
