package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The epoch of a stream is the time when it was made, until the stream loses messages that replicas had: then NATS gives
// their numbers to other messages. The replica that notices publishes a marker, a message that names another epoch, on a
// subject for markers alone. NATS stores it only if no other replica was faster, so that all agree on one epoch.
//
// A stream that has messages but no marker has lost it, and with it the name of its epoch. If no replica knows that name
// any longer, the next one begins another epoch: the name of an old one must never come back.

// marker is the newest message that names an epoch. As the first message of the stream, it is also what is missing when
// somebody has removed messages from the beginning.
type marker struct {
	name   string
	number uint64 // 0 if there is none
	floor  uint64 // messages up to this number may have been removed
	stored time.Time
}

const floorHeader = "Floor"

// isAfter reports whether a marker begins an epoch after another one.
func (m marker) isAfter(other marker) bool {
	return m.number > 0 && m.name != other.name && m.stored.After(other.stored)
}

func (r *Replica) epochSubject() string { return r.cfg.Stream + "." + epochToken }

// markerIn returns the marker that a message is. Any program may have published the message. If its text cannot be an
// epoch, the time of the message is taken instead.
func markerIn(data []byte, floor string, p place) marker {
	m := marker{name: string(data), number: p.number, stored: p.stored}
	if m.name == "" || len(m.name) > 32 || strings.Trim(m.name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		m.name = base36(p.stored)
	}
	if n, err := strconv.ParseUint(floor, 10, 64); err == nil {
		m.floor = min(n, p.number)
	}
	return m
}

// base36 returns a moment as a short text.
func base36(at time.Time) string { return strconv.FormatInt(at.UnixMicro(), 36) }

// readMarker reads the marker from the stream. It has no number if there is none.
func (r *Replica) readMarker(ctx context.Context) (marker, error) {
	m, err := r.get(ctx, request{LastFor: r.epochSubject()})
	switch {
	case errors.Is(err, errGone):
		return marker{}, nil
	case err != nil:
		return marker{}, fmt.Errorf("read its epoch: %w", err)
	}
	return markerIn(m.Data, m.header(floorHeader), m.place()), nil
}

// writeMarker publishes a marker after the last one, unless another replica was faster. It returns the one that counts.
func (r *Replica) writeMarker(ctx context.Context, m marker) (marker, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	message := nats.NewMsg(r.epochSubject())
	message.Data = []byte(m.name)
	message.Header.Set(floorHeader, strconv.FormatUint(m.floor, 10))
	message.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	_, err := r.js.PublishMsg(ctx, message, jetstream.WithRetryAttempts(0),
		jetstream.WithExpectStream(r.cfg.Stream),
		jetstream.WithExpectLastSequencePerSubject(m.number))
	now, readErr := r.readMarker(ctx)
	switch {
	case readErr != nil:
		return marker{}, cmp.Or(err, readErr)
	case now.number == 0 && err == nil:
		return marker{}, errNoRoom
	case now.number == m.number: // no replica has published one
		return marker{}, fmt.Errorf("store the name of its epoch: %w", err)
	}
	return now, nil
}

// errNoRoom says that the stream drops messages as soon as it has stored them.
var errNoRoom = errors.New("its limits leave no room for the message that names its epoch")

// isDue reports whether the marker should be renewed, before the stream's limits remove it. late is between 0 and 1, and
// differs from replica to replica, so that one of them does it for all.
func (m marker) isDue(s *jetstream.StreamInfo, late float64) bool {
	first, last := s.State.FirstSeq, s.State.LastSeq
	switch {
	case m.number == 0 || m.number >= last:
		return false
	case s.Config.MaxAge > 0 && float64(s.TimeStamp.Sub(m.stored)) > float64(s.Config.MaxAge)*(0.5+late/4):
		return true
	case s.Config.MaxMsgs > 0 || s.Config.MaxBytes > 0:
		return first > 1 && float64(m.number-min(first, m.number)) < float64(last-first)*(0.5-late/4)
	}
	return false
}
