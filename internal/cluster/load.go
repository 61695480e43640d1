package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"gin-sse/internal/event"
)

const (
	perRequest = 1000 // messages, or topics, that one request asks for; NATS has a limit of 1,024
	parallel   = 16   // requests under way
	staleWait  = 20 * time.Millisecond
	behindWait = 10 * time.Second // for a server that is behind to get as far as the fence
)

// load subscribes to what the hub needs, and hands it what the stream has of that. What the stream has up to the fence
// is loaded, and what comes after the fence comes live.
func (s *session) load(ctx context.Context, needs []*need) error {
	var followed []*need
	for _, need := range needs {
		needed, err := s.subscribe(need)
		if err != nil {
			return fmt.Errorf("subscribe to the messages of %q: %w", need.pattern, err)
		}
		if needed {
			followed = append(followed, need)
		}
	}
	fence, err := s.fence(ctx)
	if err != nil {
		return err
	}
	s.events.Release(fence)
	for some := range slices.Chunk(followed, perRequest) {
		jobs, err := s.jobs(ctx, some, fence)
		if err != nil {
			return err
		}
		if err := s.fetchAll(ctx, jobs, fence); err != nil {
			return err
		}
		if err := s.loaded(jobs, fence); err != nil {
			return err
		}
	}
	return nil
}

// loaded tells the hub that it has all messages of what was fetched up to the fence.
func (s *session) loaded(jobs []job, fence uint64) error {
	var needs []*need
	lost := map[string]uint64{}
	s.following.Lock()
	for _, j := range jobs {
		f := s.follows[j.need.pattern]
		if f == nil || !s.demand.has(j.need) {
			continue
		}
		needs = append(needs, j.need)
		for subject, number := range f.load(j.from, fence, j.fetched) {
			if topic, is := topicOf(s.cfg.Stream, subject); is {
				lost[topic] = number
			}
		}
	}
	s.following.Unlock()
	for topic, number := range lost {
		if err := s.fill(kept{topic: topic, lost: number}); err != nil {
			return err
		}
	}
	s.events.Release(fence, s.demand.load(needs)...)
	for _, need := range needs {
		s.following.Lock()
		f := s.follows[need.pattern]
		hole := f != nil && !f.loaded // even one that was found in between
		s.following.Unlock()
		if hole {
			s.unload(need.pattern)
		}
	}
	return nil
}

// kept is what the stream has of a topic. For a topic that was loaded before, that is what came since.
type kept struct {
	topic    string          // or a wildcard, without messages
	messages []event.Message // with rising numbers
	lost     uint64          // messages up to this number may be lost
	late     uint64          // subscribers may have been given others up to this number, and these not
	fence    uint64
}

// fill hands the hub what was fetched. What another pattern covers came live, even if the stream has dropped it since:
// its subscribers have still to read it, and for them nothing is lost.
func (s *session) fill(k kept) error {
	if len(k.messages) == 0 && s.demand.covers(k.topic) {
		return nil
	}
	lowest, err := s.events.Fill(k.topic, k.lost, k.messages)
	switch {
	case errors.Is(err, event.ErrClosed): // it has no clients
		return nil
	case err != nil:
		return err
	}
	if lowest > 0 && lowest <= k.late {
		s.events.Miss(k.topic, k.fence)
	}
	return nil
}

// fence stores a message in the stream and waits until it comes back. All earlier messages of what is followed have
// come by then, as far as they come at all. All later ones will, as the leader has got this replica's subscriptions
// before it got the message.
func (s *session) fence(ctx context.Context) (number uint64, err error) {
	s.fencing.Lock()
	defer s.fencing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	m := nats.NewMsg(s.fenceSubject())
	m.Data = []byte(s.id)
	m.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject) // the stream forgets the one before
	ack, err := s.js.PublishMsg(ctx, m, jetstream.WithExpectStream(s.cfg.Stream), jetstream.WithRetryAttempts(0))
	if err != nil {
		return 0, fmt.Errorf("store a mark: %w", err)
	}
	for {
		select {
		case number := <-s.fences:
			if number >= ack.Sequence {
				return number, nil
			}
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return 0, errors.New("what is stored in it does not come back from NATS in time")
			}
			return 0, context.Cause(ctx)
		}
	}
}

// read is Replica.read over the session's connection.
func (s *session) read(ctx context.Context, what request) (messages []received, pending uint64, err error) {
	messages, pending, err = s.Replica.read(ctx, what)
	if s.connection != s.connections() {
		return nil, 0, context.Canceled
	}
	return messages, pending, err
}

// job is what is to be fetched for a key.
type job struct {
	need    *need
	subject string
	from    uint64            // number
	late    uint64            // subscribers may have been given other messages up to this number
	newest  uint64            // number of the last message on the subject
	fetched map[string]uint64 // for each subject, the number of the newest message that was fetched
}

// jobs returns what is to be fetched for these needs.
func (s *session) jobs(ctx context.Context, needs []*need, fence uint64) (jobs []job, err error) {
	s.following.Lock()
	var subjects []string
	for _, need := range needs {
		f := s.follows[need.pattern]
		if f == nil { // nobody needs it any longer
			continue
		}
		jobs = append(jobs, job{need: need, subject: f.subject, from: f.upTo + 1, late: f.handed, fetched: map[string]uint64{}})
		if !strings.HasSuffix(f.subject, ">") {
			subjects = append(subjects, f.subject)
		}
	}
	s.following.Unlock()
	ahead, cancel := context.WithTimeout(ctx, behindWait)
	defer cancel()
	newest, err := s.newest(ahead, subjects, fence)
	if err != nil {
		return nil, err
	}
	for i := range jobs {
		j := &jobs[i]
		if j.newest = newest[j.subject]; !strings.HasSuffix(j.subject, ">") {
			continue
		}
		m, err := s.get(ctx, request{LastFor: j.subject})
		if err != nil && !errors.Is(err, errGone) {
			return nil, err
		}
		if err == nil {
			j.newest = m.Sequence
		}
	}
	return jobs, nil
}

// newest returns the numbers of the newest messages on these subjects.
func (s *session) newest(ctx context.Context, subjects []string, fence uint64) (map[string]uint64, error) {
	newest := map[string]uint64{}
	if len(subjects) == 0 {
		return newest, nil
	}
	limit := 4 * maxBytes
	if len(subjects) == 1 {
		limit = 0 // a single message may be larger
	}
	for {
		messages, pending, err := s.read(ctx, request{MultiLast: append(slices.Clone(subjects), s.fenceSubject()), MaxBytes: limit})
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			newest[m.subject] = m.number
		}
		switch {
		case pending > 0 && len(subjects) > 1: // the answer would be too large
			for half := range slices.Chunk(subjects, (len(subjects)+1)/2) {
				some, err := s.newest(ctx, half, fence)
				if err != nil {
					return nil, err
				}
				maps.Copy(newest, some)
			}
			return newest, nil
		case newest[s.fenceSubject()] >= fence:
			return newest, nil
		}
		if err := wait(ctx, staleWait); err != nil { // the server that was asked is behind
			return nil, err
		}
	}
}

// fetchAll fetches what these jobs need, and hands it to the hub.
func (s *session) fetchAll(ctx context.Context, jobs []job, fence uint64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	todo, pieces := make(chan job), make(chan kept)
	var fetching sync.WaitGroup
	for range min(parallel, len(jobs)) {
		fetching.Go(func() {
			for j := range todo {
				if err := s.fetch(ctx, j, fence, pieces); err != nil {
					cancel(err)
				}
			}
		})
	}
	fetching.Go(func() {
		defer close(todo)
		for _, j := range jobs {
			select {
			case todo <- j:
			case <-ctx.Done():
				return
			}
		}
	})
	go func() {
		fetching.Wait()
		close(pieces)
	}()
	for k := range pieces {
		if err := s.fill(k); err != nil {
			cancel(err)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// fetch reads messages up to the fence.
func (s *session) fetch(ctx context.Context, j job, fence uint64, pieces chan<- kept) error {
	hand := func(k kept) error {
		select {
		case pieces <- k:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if lost := s.lostBefore(j); lost > 0 {
		if err := hand(kept{topic: string(j.need.pattern), lost: lost}); err != nil {
			return err
		}
	}
	first, count := map[string]uint64{}, map[string]int64{}
	for from, done := j.from, j.newest < j.from; !done && s.demand.has(j.need); {
		messages, pending, err := s.read(ctx, request{Seq: from, NextFor: j.subject, Batch: perRequest, MaxBytes: maxBytes})
		if err != nil {
			return err
		}
		topics := map[string][]event.Message{}
		for _, m := range messages {
			if from = m.number + 1; m.number > fence {
				done = true
				break
			}
			j.fetched[m.subject] = m.number
			if m.replaces() { // nothing before it is missing, and nothing after it was dropped
				count[m.subject] = -s.perSubject
			}
			if count[m.subject]++; count[m.subject] == 1 {
				first[m.subject] = m.number
			}
			if message, is := s.message(m); is && j.need.pattern.Matches(message.Topic) {
				topics[message.Topic] = append(topics[message.Topic], message)
			}
		}
		for topic, messages := range topics {
			if err := hand(kept{topic: topic, messages: messages, late: j.late, fence: fence}); err != nil {
				return err
			}
		}
		done = done || from > j.newest
		if !done && pending == 0 {
			if done, err = s.isGone(ctx, j.subject, from, fence); err != nil {
				return err
			}
		}
	}
	// A topic drops its oldest message for a newer one once it is full. If it is full now, it may have dropped some.
	for subject, n := range count {
		topic, is := topicOf(s.cfg.Stream, subject)
		if !is || s.perSubject <= 0 || n < s.perSubject {
			continue
		}
		if err := hand(kept{topic: topic, lost: first[subject] - 1}); err != nil {
			return err
		}
	}
	return nil
}

// isGone reports whether the stream has no more messages on a subject from that number up to the fence: they were removed
// meanwhile. If it has, the server that was asked was behind, and isGone waits for it a little.
func (s *session) isGone(ctx context.Context, subject string, from, fence uint64) (bool, error) {
	m, err := s.get(ctx, request{Seq: from, NextFor: subject})
	switch {
	case errors.Is(err, errGone), err == nil && m.Sequence > fence:
		return true, nil
	case err != nil:
		return false, err
	}
	return false, wait(ctx, staleWait)
}

// lostBefore returns up to which number messages were removed between this session and the one before, or 0. Of a key
// that is loaded for the first time, the hub assumes it anyway.
func (s *session) lostBefore(j job) uint64 {
	s.following.Lock()
	defer s.following.Unlock()
	if j.from == 1 || s.epoch.floor <= s.resumed {
		return 0
	}
	return s.epoch.floor
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
