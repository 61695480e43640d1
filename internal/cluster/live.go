package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"gin-sse/internal/event"
)

// NATS sends each message that it has stored to whoever subscribes to its subject (JetStream's RePublish). A replica
// subscribes to the subjects that its clients follow, so it never hears of the others. The stream's leader sends the
// messages in the order of their numbers, and each one names the message before it on its subject. Nothing makes up for
// a message that is lost on the way, so a replica loads what it may have missed from the stream: after an interruption,
// after a change of the leader, and when a message names one before it that did not come.

const (
	maxInbox  = 16 << 10  // messages that wait for the hub; more than that, and they are loaded from the stream instead
	maxNewest = 100 << 10 // subjects below a wildcard that are checked one by one
)

// follow is a key of the hub that is followed.
type follow struct {
	subject string
	live    *nats.Subscription // in this session, or nil
	loaded  bool               // the hub has all messages, and more come as they are stored
	upTo    uint64             // the hub has all messages up to this number, even in the next session
	fetched uint64             // it has those up to this number because they were fetched
	handed  uint64             // when messages were found to be missing: the hub had others up to this number
	base    uint64             // the number that stands for the subjects that newest lacks
	newest  map[string]uint64  // for each subject, the number of the newest message that came or was fetched in this session
	named   map[string]uint64  // while not loaded: for each subject, the number of the newest message that was named and did not come
}

// begin prepares the follow for a new session.
func (f *follow) begin() {
	f.live, f.loaded, f.base, f.newest, f.named = nil, false, 0, nil, nil
}

// came notes a message, and reports whether it shows that another one did not come.
func (f *follow) came(m received) (hole bool) {
	hole = m.previous > f.newestOf(m.subject)
	if m.replaces() { // whatever did not come is replaced
		hole = false
		delete(f.named, m.subject)
	}
	switch {
	case hole && !f.loaded:
		if f.named == nil {
			f.named = make(map[string]uint64, 1)
		}
		f.named[m.subject] = m.previous // load will know more
	case hole:
		f.loaded, f.upTo = false, min(f.upTo, f.newestOf(m.subject))
	case f.loaded:
		f.upTo = max(f.upTo, m.number)
	}
	f.note(m.subject, m.number)
	return hole
}

func (f *follow) newestOf(subject string) uint64 {
	if number, is := f.newest[subject]; is {
		return number
	}
	return f.base
}

func (f *follow) note(subject string, number uint64) {
	if f.loaded && len(f.newest) >= maxNewest {
		f.base, f.newest = f.upTo, nil
	}
	if f.newest == nil {
		f.newest = make(map[string]uint64, 1)
	}
	f.newest[subject] = max(f.newest[subject], number)
}

// load notes what was fetched: all messages from a number on, as far as the stream had them, up to the fence. For each
// subject, fetched has the number of the newest one. The follow is loaded if all later ones came. It returns the
// subjects of which the stream dropped messages before they could be fetched, with the number of the newest such
// message.
func (f *follow) load(from, fence uint64, fetched map[string]uint64) (lost map[string]uint64) {
	lost = map[string]uint64{}
	f.loaded, f.base, f.upTo = true, from-1, fence
	for subject, number := range f.named {
		switch {
		case number > fence:
			f.loaded = false
		case number >= from && number > fetched[subject]:
			lost[subject] = number
		}
	}
	for subject, number := range fetched {
		f.note(subject, number)
	}
	f.named = nil
	if !f.loaded {
		f.upTo = from - 1
		return lost
	}
	f.fetched = fence
	for _, number := range f.newest {
		f.upTo = max(f.upTo, number)
	}
	return lost
}

// received is a message of the stream as NATS sends it on.
type received struct {
	*nats.Msg
	subject  string // in the stream
	number   uint64
	previous uint64 // number of the message before it on its subject, or 0
	stored   time.Time
}

// replaces reports whether the message took the place of all before it on its subject.
func (m received) replaces() bool { return m.Msg != nil && m.Header.Get(jetstream.MsgRollup) != "" }

func receive(m *nats.Msg) (got received, err error) {
	got = received{Msg: m, subject: last(m, jetstream.SubjectHeader)}
	if got.number, err = strconv.ParseUint(last(m, jetstream.SequenceHeader), 10, 64); err != nil {
		return got, fmt.Errorf("a message has no number: %w", err)
	}
	if got.previous, err = strconv.ParseUint(last(m, jetstream.LastSequenceHeader), 10, 64); err != nil {
		return got, fmt.Errorf("message %d does not name the one before it: %w", got.number, err)
	}
	if got.stored, err = time.Parse(time.RFC3339Nano, last(m, jetstream.TimeStampHeaer)); err != nil {
		return got, fmt.Errorf("message %d has no time: %w", got.number, err)
	}
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

// listen hands messages to the hub as they come, until ctx ends.
func (s *session) listen(ctx context.Context) error {
	for {
		select {
		case m := <-s.inbox:
			if s.connection != s.connections() {
				return context.Canceled
			}
			got, err := receive(m)
			if err != nil {
				return err
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
	switch m.subject {
	case s.fenceSubject():
		if string(m.Data) == s.id { // otherwise another replica's
			select {
			case s.fences <- m.number:
			case <-ctx.Done(): // nobody waits for it
			}
		}
		return nil
	case s.epochSubject():
		return s.newMarker(markerIn(m.Data, m.Header.Get, m.number, m.stored))
	}
	message, is := s.message(m)
	if !is {
		return nil
	}
	var holes []event.Pattern
	followed := false
	see := func(pattern event.Pattern) {
		if f := s.follows[pattern]; f != nil {
			followed = true
			if wasLoaded := f.loaded; f.came(m) && wasLoaded {
				f.handed = s.handed
				holes = append(holes, pattern)
			}
		}
	}
	s.following.Lock()
	see(event.Pattern(message.Topic))
	for pattern := range event.Wildcards(message.Topic) {
		see(pattern)
	}
	s.reached(m.number, m.stored)
	if followed {
		s.handed = m.number
	}
	s.following.Unlock()
	if !followed {
		return nil
	}
	s.unload(holes...)           // before this message overtakes the one that is missing
	_ = s.events.Append(message) // the data is JSON, and a closed hub has no clients
	return nil
}

// unload has patterns loaded again, of which messages may be missing.
func (r *Replica) unload(patterns ...event.Pattern) {
	r.demand.unload(patterns...)
	r.events.Hold(patterns...)
}

// message returns the message as the hub takes it. Any program may have put it into the stream, even on a subject that
// belongs to no topic.
func (r *Replica) message(m received) (message event.Message, is bool) {
	topic, is := topicOf(r.cfg.Stream, m.subject)
	if !is {
		if token, _ := strings.CutPrefix(m.subject, r.cfg.Stream+"."); !strings.HasPrefix(token, "$") {
			r.tell(fmt.Sprintf("NATS: messages in the stream %q whose subjects are no topics are skipped", r.cfg.Stream))
		}
		return message, false
	}
	message = event.Message{Number: m.number, Topic: topic, Name: m.Header.Get(nameHeader), Data: m.Data, End: m.Header.Get(endHeader) == "true", Replace: m.replaces(), Time: m.stored.UnixMilli()}
	if err := event.CheckName(message.Name); err != nil {
		r.cfg.Log("NATS: message %d of the stream %q is sent without its name: %v", m.number, r.cfg.Stream, err)
		message.Name = ""
	}
	if (len(m.Data) > 0 || !message.End) && (!utf8.Valid(m.Data) || !json.Valid(m.Data)) {
		message.Data = quote(m.Data)
	}
	return message, true
}

// quote returns any text as a JSON string.
func quote(text []byte) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(string(text)) // a buffer takes everything
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// subscribe makes NATS send the messages of a key, unless it does so already. It returns false if nobody needs them any
// longer.
func (s *session) subscribe(need *need) (needed bool, err error) {
	s.following.Lock()
	defer s.following.Unlock()
	if !s.demand.has(need) {
		return false, nil
	}
	f := s.follows[need.pattern]
	if f == nil {
		f = &follow{subject: subjectOfPattern(s.cfg.Stream, need.pattern)}
		s.follows[need.pattern] = f
	}
	if f.loaded = false; !need.known {
		f.upTo = 0
	}
	if f.live != nil {
		return true, nil
	}
	f.live, err = s.nc.ChanSubscribe(s.liveSubject(f.subject), s.inbox)
	return true, err
}

// unfollow gives back what keys take that nobody has followed for a while.
func (s *session) unfollow() error {
	patterns := s.demand.forget(s.cfg.Linger)
	s.events.Forget(patterns, s.demand.needed)
	for _, pattern := range patterns {
		if err := s.drop(pattern); err != nil {
			return err
		}
	}
	return nil
}

// drop ends a follow.
func (s *session) drop(pattern event.Pattern) error {
	s.following.Lock()
	defer s.following.Unlock()
	f := s.follows[pattern]
	delete(s.follows, pattern)
	if f == nil || f.live == nil {
		return nil
	}
	if err := f.live.Unsubscribe(); err != nil {
		return fmt.Errorf("unsubscribe from %q: %w", f.subject, err)
	}
	return nil
}
