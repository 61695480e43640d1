package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The epoch of a stream is the time when it was made, until the stream loses messages that replicas had: then
// NATS gives their numbers to other messages. The replica that notices publishes a new epoch to the stream
// itself, on a subject for epochs alone. NATS stores it only if no other replica was faster, so that all agree
// on one epoch.

// marker is the newest message that names an epoch.
type marker struct {
	epoch  string
	number uint64 // 0 if there is none
}

// epochNow reads the epoch from the stream.
func (r *Replica) epochNow(ctx context.Context, created time.Time) (marker, error) {
	m, err := r.get(ctx, request{LastFor: r.epochSubject()})
	switch {
	case errors.Is(err, errGone):
		return marker{epoch: base36(created)}, nil
	case err != nil:
		return marker{}, fmt.Errorf("read its epoch: %w", err)
	}
	return marker{epochIn(m.Data, m.Time), m.Sequence}, nil
}

// setEpoch publishes a new epoch, unless another replica was faster. It returns the epoch that counts.
func (r *Replica) setEpoch(ctx context.Context, epoch string, after uint64, created time.Time) (marker, error) {
	message := nats.NewMsg(r.epochSubject())
	message.Data = []byte(epoch)
	_, err := r.js.PublishMsg(ctx, message,
		jetstream.WithExpectStream(r.cfg.Stream),
		jetstream.WithExpectLastSequencePerSubject(after))
	now, readErr := r.epochNow(ctx, created)
	if readErr == nil && now.number == after { // no replica has published one
		return now, fmt.Errorf("name a new epoch: %w", err)
	}
	return now, readErr
}

func (r *Replica) epochSubject() string { return r.cfg.Stream + "." + epochToken }

// epochIn returns the epoch that a message names. Any program may have published the message. If its text cannot be
// an epoch, the time of the message is taken instead.
func epochIn(data []byte, at time.Time) string {
	epoch := string(data)
	if epoch == "" || len(epoch) > 32 || strings.Trim(epoch, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return base36(at)
	}
	return epoch
}

// base36 returns a moment as a short text.
func base36(at time.Time) string { return strconv.FormatInt(at.UnixMicro(), 36) }
