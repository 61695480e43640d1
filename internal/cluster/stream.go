package cluster

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// find finds the stream, or creates it, and makes it do what replicas need, if it does not.
func (r *Replica) find(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	stream, err := r.js.Stream(ctx, r.cfg.Stream)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return r.create(ctx)
	case err != nil:
		return nil, err
	case level(stream) < directLevel:
		return nil, errOld
	}
	had := stream.CachedInfo().Config
	config := r.equipped(had)
	switch {
	case reflect.DeepEqual(config, had):
		return stream, nil
	case had.RePublish != nil && *had.RePublish != *config.RePublish:
		return nil, fmt.Errorf("it republishes %q to %q, but replicas need %q to %q", had.RePublish.Source, had.RePublish.Destination, config.RePublish.Source, config.RePublish.Destination)
	}
	if config.MaxMsgsPerSubject == int64(r.cfg.History) { // an earlier version made it
		config.MaxMsgsPerSubject += spare
	}
	stream, err = r.js.UpdateStream(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("it has the subjects %q, needs %q, republishing to %q, direct access and roll-ups, and cannot be changed: %w", had.Subjects, config.Subjects, config.RePublish.Destination, err)
	}
	r.info("NATS: the stream %q was changed for replicas: it has the subjects %q, keeps %d messages for each, and republishes them to %q",
		r.cfg.Stream, config.Subjects, config.MaxMsgsPerSubject, config.RePublish.Destination)
	return stream, nil
}

// create creates the stream, unless another replica is faster.
func (r *Replica) create(ctx context.Context) (jetstream.Stream, error) {
	stream, err := r.js.CreateStream(ctx, r.equipped(jetstream.StreamConfig{
		Name:        r.cfg.Stream,
		Storage:     jetstream.FileStorage,
		Replicas:    r.cfg.Replicas,
		AllowMsgTTL: true,
	}))
	switch created, _, _ := r.truth.now(); {
	case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse):
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

// spare is how many messages of a topic the stream keeps more than a replica: one so that a replica can tell a topic that has
// just become full from one that has lost messages, and one for an end without an event.
const spare = 2

// equipped returns a stream's settings as replicas need them. Versions without topics made streams with one limit for all
// messages, which becomes a limit for each topic.
func (r *Replica) equipped(c jetstream.StreamConfig) jetstream.StreamConfig {
	all := r.cfg.Stream + ".>"
	if !slices.Contains(c.Subjects, all) && c.MaxMsgsPerSubject <= 0 {
		c.MaxMsgs, c.MaxMsgsPerSubject = -1, int64(r.cfg.History)+spare
	}
	if !slices.Contains(c.Subjects, r.cfg.Stream) || !slices.Contains(c.Subjects, all) {
		others := slices.DeleteFunc(slices.Clone(c.Subjects), func(subject string) bool {
			return subject == r.cfg.Stream || strings.HasPrefix(subject, r.cfg.Stream+".")
		})
		c.Subjects = append([]string{r.cfg.Stream, all}, others...)
	}
	c.RePublish = &jetstream.RePublish{Source: ">", Destination: r.liveSubject(">")} // NATS sends on what it has stored
	c.AllowDirect, c.AllowRollup = true, true
	return c
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

// limited reports whether a stream drops messages for another reason than newer messages of the same topic.
func limited(c jetstream.StreamConfig) bool {
	return c.MaxAge > 0 || c.MaxBytes > 0 || c.MaxMsgs > 0 || c.Retention != jetstream.LimitsPolicy
}
