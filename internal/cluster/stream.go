package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// open finds the stream, or creates it, and lets it take batches.
func (r *Replica) open(ctx context.Context) (jetstream.Stream, error) {
	stream, err := r.find(ctx)
	if err != nil {
		return nil, err
	}
	return r.allowBatches(ctx, stream), nil
}

// find finds the stream, or creates it.
func (r *Replica) find(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	stream, err := r.js.Stream(ctx, r.cfg.Stream)
	switch {
	case err == nil:
		return r.upgrade(ctx, stream)
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, err
	}
	stream, err = r.js.CreateStream(ctx, jetstream.StreamConfig{
		Name:              r.cfg.Stream,
		Subjects:          missing(r.cfg.Stream, nil),
		Storage:           jetstream.FileStorage,
		Replicas:          r.cfg.Replicas,
		MaxMsgsPerSubject: r.perTopic(),
	})
	switch {
	case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse): // another replica was faster
		return r.js.Stream(ctx, r.cfg.Stream)
	case err == nil && !r.created.IsZero():
		r.cfg.Log("NATS: the stream %q was deleted, and is made anew; clients are told of a gap", r.cfg.Stream)
	case err == nil:
		r.cfg.Log("NATS: the stream %q was made", r.cfg.Stream)
	}
	return stream, err
}

// perTopic returns how many messages the stream keeps for each topic. For NATS, 0 would mean any number.
func (r *Replica) perTopic() int64 { return int64(max(r.cfg.History, 1)) }

// upgrade makes a stream accept the messages of all topics, if it does not. Versions without topics made streams
// with one subject and one limit for all messages, which becomes a limit for each topic.
func (r *Replica) upgrade(ctx context.Context, stream jetstream.Stream) (jetstream.Stream, error) {
	config := stream.CachedInfo().Config
	lacks := missing(r.cfg.Stream, config.Subjects)
	if len(lacks) == 0 {
		return stream, nil
	}
	had := config.Subjects
	config.Subjects = append(slices.DeleteFunc(slices.Clone(had), func(subject string) bool {
		return slices.ContainsFunc(lacks, func(lack string) bool { return covers(lack, subject) })
	}), lacks...)
	if config.MaxMsgsPerSubject <= 0 {
		config.MaxMsgs, config.MaxMsgsPerSubject = -1, r.perTopic()
	}
	upgraded, err := r.js.UpdateStream(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("it has the subjects %q, needs %q for topics, and cannot be changed: %w", had, config.Subjects, err)
	}
	r.cfg.Log("NATS: the stream %q, which had the subjects %q, takes topics now: it has %q and keeps %d messages for each",
		r.cfg.Stream, had, config.Subjects, config.MaxMsgsPerSubject)
	return upgraded, nil
}

// limited reports whether a stream drops messages for another reason than newer messages of the same topic.
func limited(c jetstream.StreamConfig) bool {
	return c.MaxAge > 0 || c.MaxBytes > 0 || c.MaxMsgs > 0 || c.AllowMsgTTL || c.Retention != jetstream.LimitsPolicy
}
