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

// marker is the newest message that names an epoch. As the first message of the stream, it is also what is missing when
// somebody has removed messages from the beginning.
type marker struct {
	epoch  string
	number uint64 // 0 if there is none
	floor  uint64 // messages up to this number may have been removed
}

const floorHeader = "Floor"

// epochNow reads the epoch from the stream.
func (r *Replica) epochNow(ctx context.Context, created time.Time) (marker, error) {
	m, err := r.get(ctx, request{LastFor: r.epochSubject()})
	switch {
	case errors.Is(err, errGone):
		return marker{epoch: base36(created)}, nil
	case err != nil:
		return marker{}, fmt.Errorf("read its epoch: %w", err)
	}
	return markerIn(m.Data, m.header, m.Sequence, m.Time), nil
}

func markerIn(data []byte, header func(string) string, number uint64, stored time.Time) marker {
	floor, err := strconv.ParseUint(header(floorHeader), 10, 64)
	if err != nil {
		floor = 0 // any program may have published it
	}
	return marker{epochIn(data, stored), number, min(floor, number)}
}

// setEpoch publishes a new epoch, unless another replica was faster. It returns the epoch that counts.
func (r *Replica) setEpoch(ctx context.Context, epoch string, after, floor uint64, created time.Time) (marker, error) {
	message := nats.NewMsg(r.epochSubject())
	message.Data = []byte(epoch)
	message.Header.Set(floorHeader, strconv.FormatUint(floor, 10))
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
