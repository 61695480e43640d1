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

const (
	settled   = 15 * time.Second // how long a new leader may take to have all messages that came
	nameWait  = 5 * time.Second  // how long other replicas may take to store the marker once more
	firstWait = 2 * time.Second  // how long they may take to look at a NATS that has just come up, and may have an older copy
)

var (
	errNoMarker = errors.New("it has lost the name of its epoch, which another replica may still know")
	errFirst    = errors.New("NATS has just come up, and another replica may know more of the stream")
	errNewEpoch = errors.New("it lost messages, as another replica found")
	errNoRoom   = errors.New("its limits leave no room for the message that names its epoch")
)

// isAfter reports whether a marker begins an epoch after another one.
func (m marker) isAfter(other marker) bool {
	return m.number > 0 && m.name != other.name && m.stored.After(other.stored)
}

func (r *Replica) epochSubject() string { return r.cfg.Stream + "." + epochToken }

// markerIn returns the marker that a message is. Any program may have published the message. If its text cannot be an
// epoch, the time of the message is taken instead.
func markerIn(m received) marker {
	epoch := marker{name: string(m.Data), number: m.number, stored: m.stored}
	if epoch.name == "" || len(epoch.name) > 32 || strings.Trim(epoch.name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		epoch.name = base36(m.stored)
	}
	if n, err := strconv.ParseUint(m.Header.Get(floorHeader), 10, 64); err == nil {
		epoch.floor = min(n, m.number)
	}
	return epoch
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
	return markerIn(m), nil
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

// place decides where to go on in the stream: where the last session stopped or, in another epoch, at the beginning.
func (s *session) place(ctx context.Context) error {
	created, known, highest := s.truth.now()
	now, err := s.ask(ctx)
	if err != nil {
		return fmt.Errorf("look at it: %w", err)
	}
	if most := now.Config.MaxMsgs; most > 0 && most < fewest {
		return fmt.Errorf("it keeps %d messages at most: raise its limit to %d or more", most, fewest)
	}
	epoch, err := s.readMarker(ctx)
	if err != nil {
		return err
	}
	s.sight.Store(&sight{StreamInfo: now, asked: time.Now()})
	isSame, lost := now.Created.Equal(created), ""
	if isSame {
		switch err := s.prove(ctx); {
		case errors.Is(err, errReplaced):
			lost = err.Error()
		case err != nil:
			return err
		case errors.Is(s.learnState(now, highest), errFewer):
			if now.Config.Replicas > 1 && !s.hasWaited(settled) { // a new leader may know of more messages in a moment
				return errFewer
			}
			lost = fmt.Sprintf("it ends with number %d, but number %d had come", now.State.LastSeq, highest)
		case epoch.number > 0 && epoch.name != known.name && !epoch.isAfter(known):
			lost = "it is in an epoch that was over"
		}
	}
	switch isFirst := created.IsZero(); {
	case isFirst && epoch.number == 0 && now.State.LastSeq > 0 && !s.hasWaited(nameWait):
		return errNoMarker
	case isFirst && epoch.number > 0 && s.refused && !s.hasWaited(firstWait):
		return errFirst
	}
	s.waits = time.Time{}
	switch isNamed := epoch.number > 0 && (!isSame || epoch.isAfter(known)); {
	case isNamed && isSame:
		s.warn("NATS: the stream %q lost messages, as another replica found; clients are told of a gap", s.cfg.Stream)
	case isNamed:
	case isSame && lost == "":
		if err := s.checkEpoch(ctx, 0, false); err != nil {
			return err
		}
		s.adopt(now)
		return nil
	default:
		name := base36(time.Now())
		if !isSame && now.State.LastSeq == 0 {
			name = base36(now.Created)
		}
		if epoch, err = s.writeMarker(ctx, marker{name: name, number: epoch.number, floor: firstOf(now) - 1}); err != nil {
			return err
		}
		if isSame {
			s.warn("NATS: the stream %q has lost messages: %s; clients are told of a gap", s.cfg.Stream, lost)
		}
	}
	return s.beginEpoch(ctx, epoch, now)
}

// hasWaited reports whether place has waited that long for something to change.
func (r *Replica) hasWaited(d time.Duration) bool {
	if r.waits.IsZero() {
		r.waits = time.Now()
	}
	return time.Since(r.waits) >= d
}

// fewest is how many messages a stream must keep at least, if it has a limit: with fewer, the marker and a message would
// push out each other.
const fewest = 2

// checkEpoch reads the marker. It stores the marker once more if that is missing or soon will be, if messages up to a number
// were removed, or if NATS may store nothing.
func (s *session) checkEpoch(ctx context.Context, removed uint64, doubt bool) error {
	now, err := s.readMarker(ctx)
	if err != nil {
		return err
	}
	_, known, _ := s.truth.now()
	stream := s.sight.Load().StreamInfo
	isGone := now.number == 0
	if !isGone && now.name != known.name && !now.isAfter(known) {
		return errReplaced // that epoch was over
	}
	if isGone || now.name == known.name && (doubt || removed > now.floor || now.isDue(stream, s.late)) {
		if isGone || limited(stream.Config) {
			removed = max(removed, firstOf(stream)-1)
		}
		if now, err = s.writeMarker(ctx, marker{name: known.name, number: now.number, floor: max(now.floor, removed)}); err != nil {
			s.report(publishing, "messages are not stored: "+cause(err))
			return nil
		}
		s.report(publishing, "")
	}
	return s.newMarker(now)
}

// checkRemoved finds out whether a message was removed that was the last one on its subject. NATS does that for limits that
// are known, and otherwise somebody has removed the messages of a topic. Only a replica that had them can know, so it tells
// all others: messages of any topic up to there may be missing.
func (s *session) checkRemoved(ctx context.Context, number uint64) error {
	if _, known, _ := s.truth.now(); number <= known.floor {
		return nil
	}
	if _, err := s.get(ctx, request{Seq: number}); !errors.Is(err, errGone) {
		return err
	}
	return s.checkEpoch(ctx, number, false)
}

// newMarker takes note of a marker that came.
func (s *session) newMarker(m marker) error {
	switch _, known, _ := s.truth.now(); {
	case m.isAfter(known):
		return errNewEpoch
	case m.name != known.name, m.number <= known.number:
		return nil
	}
	if s.truth.mark(m) {
		s.events.LoseAll(m.floor)
		s.tally(removal, s.cfg.Stream, fmt.Sprintf("messages were removed from the stream, up to number %d; clients that miss them are told of a gap", m.floor))
	}
	return nil
}

// beginEpoch tells the hub of a new epoch, in which everything is loaded again.
func (s *session) beginEpoch(ctx context.Context, epoch marker, now *jetstream.StreamInfo) error {
	seen := now.State.LastSeq
	if created, _, _ := s.truth.now(); created.IsZero() {
		first, err := s.get(ctx, request{StartTime: &s.started, NextFor: ">"})
		if err != nil && !errors.Is(err, errGone) {
			return fmt.Errorf("find where the stream was at the start: %w", err)
		}
		if err == nil && !first.stored.Before(s.started) {
			seen = first.number - 1
		}
	}
	s.truth.begin(now.Created, epoch, now.State.LastSeq)
	s.feeds.reset(true)
	s.events.Begin(epoch.name, epoch.floor, seen)
	s.adopt(now)
	return nil
}
