package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"gin-sse/internal/event"
)

const (
	maxInbox    = 16 << 10               // messages that wait for the hub; more than that, and they are loaded from the stream instead
	confirmWait = 250 * time.Millisecond // for NATS to confirm a message that is about to be handed over
	maxAhead    = 10_000                 // how far a message may be above the last number that NATS confirmed
)

// received is a message of the stream as NATS sends it.
type received struct {
	*nats.Msg
	place
	subject  string // in the stream
	previous uint64 // number of the message before it on its subject, or 0
}

// replaces reports whether the message took the place of all before it on its subject.
func (m received) replaces() bool { return m.Msg != nil && m.Header.Get(jetstream.MsgRollup) != "" }

// receive reads the headers that NATS adds to a message.
func receive(m *nats.Msg) (got received, err error) {
	got = received{Msg: m, subject: last(m, jetstream.SubjectHeader)}
	if got.number, err = strconv.ParseUint(last(m, jetstream.SequenceHeader), 10, 64); err != nil || got.number == 0 {
		return got, fmt.Errorf("a message has no number, but %q", last(m, jetstream.SequenceHeader))
	}
	if got.previous, err = strconv.ParseUint(last(m, jetstream.LastSequenceHeader), 10, 64); err != nil {
		return got, fmt.Errorf("a message does not name the one before it, but %q", last(m, jetstream.LastSequenceHeader))
	}
	if got.stored, err = time.Parse(time.RFC3339Nano, last(m, jetstream.TimeStampHeaer)); err != nil {
		return got, fmt.Errorf("a message has no time, but %q", last(m, jetstream.TimeStampHeaer))
	}
	got.key = cmp.Or(m.Header.Get(jetstream.MsgIDHeader), noKey)
	return got, nil
}

// last returns the last value of a header: NATS adds its own after those of the publisher, which may have the same name.
func last(m *nats.Msg, header string) string {
	values := m.Header[header]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// isPlausible returns an error if a message that came live cannot be one that NATS sent on: any program may publish to
// the subjects of live messages.
func (r *Replica) isPlausible(m received) error {
	switch {
	case last(m.Msg, jetstream.StreamHeader) != r.cfg.Stream, m.Subject != r.liveSubject(m.subject):
		return errors.New("a message names another stream or subject")
	case m.previous >= m.number:
		return errors.New("a message comes before itself")
	}
	return nil
}

// listen gives the messages that come to the hub, until ctx ends. It also gives back what patterns take that nobody follows
// any longer.
func (s *session) listen(ctx context.Context) error {
	sweep := time.NewTicker(max(s.cfg.Linger/lingerSweeps, time.Millisecond))
	defer sweep.Stop()
	for {
		select {
		case <-sweep.C:
			s.sweep()
		case m := <-s.inbox:
			if s.connection != s.connections() {
				return errDisconnected
			}
			if strings.HasPrefix(m.Subject, s.echoes) {
				s.echo(m)
				continue
			}
			got, err := receive(m)
			if err = cmp.Or(err, s.isPlausible(got)); err != nil {
				s.tally(badMessage, m.Subject, err.Error())
				continue
			}
			if err := s.hand(ctx, got); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// hand gives a message that came to the hub.
func (s *session) hand(ctx context.Context, m received) error {
	switch may, err := s.confirm(ctx, m); {
	case err != nil:
		return err
	case !may:
		s.tally(badMessage, m.Subject, "a message has a number that NATS has not given yet")
		return nil
	}
	if m.subject == s.epochSubject() {
		if s.truth.learn(answer{source: live, place: m.place}) == wentBack {
			return errReplaced
		}
		return s.newMarker(markerIn(m))
	}
	message, is := s.message(m)
	if !is {
		return nil
	}
	removed, isStored := s.suspect(message.Topic, m), true
	if removed > 0 {
		switch stored, err := s.get(ctx, request{Seq: m.number}); {
		case errors.Is(err, errGone): // NATS has not sent it, or has dropped it since: what else it has dropped is found by loading
			isStored = false
		case err == nil && (stored.subject != m.subject || m.isOther(stored.place)):
			s.tally(badMessage, m.Subject, "a message was not stored by NATS")
			return nil
		case err == nil:
			s.check(func(ctx context.Context) error { return s.checkRemoved(ctx, removed) })
		}
	}
	s.handing.Lock()
	defer s.handing.Unlock()
	var holes []event.Pattern
	s.feeds.mu.Lock()
	feeds := s.feeds.matching(message.Topic)
	for _, f := range feeds {
		above, again := f.before(m.subject), f.loaded
		if isStored {
			v := s.truth.learn(answer{source: live, place: m.place, previous: m.previous, before: above})
			if v == wentBack {
				s.feeds.mu.Unlock()
				return errReplaced
			}
			above, again = f.came(m, v == hasHole, m.number <= s.feeds.handed)
		} else {
			f.missing = max(f.missing, m.number)
		}
		if again {
			s.feeds.reload(f, above)
			holes = append(holes, f.pattern)
		}
	}
	taken := isStored && len(holes) < len(feeds) // otherwise it is loaded with what is missing
	if taken {
		s.feeds.handed = max(s.feeds.handed, m.number)
		s.feeds.newest.Store(max(s.feeds.newest.Load(), m.number))
	}
	s.feeds.mu.Unlock()
	s.events.Hold(holes...) // before this message overtakes the one that is missing
	if taken {
		_ = s.events.Append(message) // the data is JSON, and a closed hub has no clients
	}
	return nil
}

// suspect returns the number of the last message on the subject, if the new one names one before it. Either somebody has
// removed that message, or NATS has not sent the new one.
func (s *session) suspect(topic string, m received) (last uint64) {
	s.feeds.mu.Lock()
	defer s.feeds.mu.Unlock()
	for _, f := range s.feeds.matching(topic) {
		if seen := f.seen(m.subject); m.previous < seen && seen < m.number {
			last = seen
		}
	}
	return last
}

// confirm reports whether a message may be handed over. NATS is asked for the number of its last message if this one
// comes after a pause, or is far ahead: only NATS decides what is newest. That also shows in time whether the leader has
// changed, after which messages may be missing. A message that is far ahead may be genuine, so without an answer there
// is an error.
func (s *session) confirm(ctx context.Context, m received) (bool, error) {
	last := s.sight.Load()
	patience, isAhead := last.patience(m.number, time.Now())
	if patience == 0 {
		return !isAhead, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.look(ctx); err != nil && isAhead {
		return false, err
	} else if err != nil {
		return true, nil
	}
	now := s.sight.Load().StreamInfo
	return m.number <= now.State.LastSeq || leader(now) != leader(last.StreamInfo), nil
}

// patience returns how long NATS is to be asked about a message before it is handed over, and whether the message is far
// ahead. If NATS is not to be asked, it has just said that there is no message which is far ahead, and all others are
// handed over. While it is being asked, it has said nothing yet.
func (s *sight) patience(number uint64, now time.Time) (patience time.Duration, isAhead bool) {
	switch isAhead = number > s.State.LastSeq+maxAhead; {
	case isAhead && now.Sub(s.asOf) < lookEvery/10:
		return 0, true
	case isAhead:
		return answerWait, true
	case now.Sub(s.asked) < lookEvery:
		return 0, false
	}
	return confirmWait, false
}

// message returns the message as the hub takes it. Any program may have put it into the stream, even on a subject that
// belongs to no topic.
func (r *Replica) message(m received) (message event.Message, is bool) {
	topic, is := topicOf(r.cfg.Stream, m.subject)
	if !is {
		if token, _ := strings.CutPrefix(m.subject, r.cfg.Stream+"."); !strings.HasPrefix(token, "$") {
			r.tally(badSubject, m.subject, "messages whose subjects are no topics are skipped")
		}
		return message, false
	}
	message = event.Message{Number: m.number, Topic: topic, Name: m.Header.Get(nameHeader), Data: m.Data, End: m.Header.Get(endHeader) == "true", Replace: m.replaces(), Time: m.stored.UnixMilli()}
	if err := event.CheckName(message.Name); err != nil {
		r.tally(badName, m.subject, fmt.Sprintf("message %d is sent without its name: %v", m.number, err))
		message.Name = ""
	}
	if (len(m.Data) > 0 || !message.End) && (!utf8.Valid(m.Data) || !json.Valid(m.Data)) {
		message.Data, _ = json.Marshal(string(m.Data)) // any text has a form in JSON
	}
	return message, true
}
