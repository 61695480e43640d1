package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// find finds the stream, or creates it.
func (r *Replica) find(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	stream, err := r.js.Stream(ctx, r.cfg.Stream)
	switch {
	case err == nil:
		return r.equip(ctx, stream)
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, err
	}
	created, _, _ := r.truth.now()
	stream, err = r.js.CreateStream(ctx, jetstream.StreamConfig{
		Name:              r.cfg.Stream,
		Subjects:          r.subjects(),
		Storage:           jetstream.FileStorage,
		Replicas:          r.cfg.Replicas,
		MaxMsgsPerSubject: r.perTopic(),
		RePublish:         r.sendOn(),
		AllowDirect:       true,
		AllowRollup:       true,
		AllowMsgTTL:       true,
	})
	switch {
	case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse): // another replica was faster
		return r.js.Stream(ctx, r.cfg.Stream)
	case err == nil && level(stream) < directLevel:
		return nil, errOld
	case err == nil && !created.IsZero():
		r.warn("NATS: the stream %q was deleted, and is made anew; clients are told of a gap", r.cfg.Stream)
	case err == nil:
		r.info("NATS: the stream %q was made", r.cfg.Stream)
	}
	return stream, err
}

// subjects returns the subjects of all topics.
func (r *Replica) subjects() []string { return []string{r.cfg.Stream, r.cfg.Stream + ".>"} }

// perTopic returns how many messages the stream keeps for each topic: one more than a replica, so that a replica can
// tell a topic that has just become full from one that has lost messages, and one for an end without an event.
func (r *Replica) perTopic() int64 { return int64(r.cfg.History) + 2 }

// sendOn is the stream's setting that makes NATS send on what it has stored.
func (r *Replica) sendOn() *jetstream.RePublish {
	return &jetstream.RePublish{Source: ">", Destination: r.liveSubject(">")}
}

// sendsOn reports whether a stream does all that replicas need.
func (r *Replica) sendsOn(config jetstream.StreamConfig) bool {
	has := func(subject string) bool { return slices.Contains(config.Subjects, subject) }
	return has(r.subjects()[0]) && has(r.subjects()[1]) && config.RePublish != nil && *config.RePublish == *r.sendOn() && config.AllowDirect && config.AllowRollup
}

// directLevel is the level of JetStream's API that reads several messages in one request.
const directLevel = 1

var errOld = errors.New("NATS is too old: replicas need version 2.11 or newer")

// level returns the level of JetStream's API that a server has. Versions before 2.11 have none.
func level(stream jetstream.Stream) int {
	n, err := strconv.Atoi(stream.CachedInfo().Config.Metadata["_nats.level"])
	if err != nil {
		return 0
	}
	return n
}

// equip makes an existing stream do what replicas need, if it does not. Earlier versions made streams without topics, with
// one subject and one limit for all messages, and streams that keep fewer messages for each topic.
func (r *Replica) equip(ctx context.Context, stream jetstream.Stream) (jetstream.Stream, error) {
	config := stream.CachedInfo().Config
	switch {
	case level(stream) < directLevel:
		return nil, errOld
	case r.sendsOn(config):
		return stream, nil
	case config.RePublish != nil && *config.RePublish != *r.sendOn():
		return nil, fmt.Errorf("it republishes %q to %q, but replicas need %q to %q", config.RePublish.Source, config.RePublish.Destination, r.sendOn().Source, r.sendOn().Destination)
	}
	had := config.Subjects
	others := slices.DeleteFunc(slices.Clone(had), func(subject string) bool {
		return subject == r.cfg.Stream || strings.HasPrefix(subject, r.cfg.Stream+".")
	})
	if config.MaxMsgsPerSubject <= 0 && !slices.Contains(had, r.subjects()[1]) {
		config.MaxMsgs, config.MaxMsgsPerSubject = -1, r.perTopic()
	}
	if config.MaxMsgsPerSubject == int64(r.cfg.History) {
		config.MaxMsgsPerSubject = r.perTopic()
	}
	config.Subjects = append(r.subjects(), others...)
	config.RePublish, config.AllowDirect, config.AllowRollup = r.sendOn(), true, true
	equipped, err := r.js.UpdateStream(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("it has the subjects %q, needs %q, republishing to %q, direct access and roll-ups, and cannot be changed: %w", had, config.Subjects, config.RePublish.Destination, err)
	}
	r.info("NATS: the stream %q was changed for replicas: it has the subjects %q, keeps %d messages for each, and republishes them to %q",
		r.cfg.Stream, config.Subjects, config.MaxMsgsPerSubject, config.RePublish.Destination)
	return equipped, nil
}

// limited reports whether a stream drops messages for another reason than newer messages of the same topic.
func limited(c jetstream.StreamConfig) bool {
	return c.MaxAge > 0 || c.MaxBytes > 0 || c.MaxMsgs > 0 || c.Retention != jetstream.LimitsPolicy
}
