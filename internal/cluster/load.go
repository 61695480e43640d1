package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"gin-sse/internal/event"
)

const (
	perRequest = 1000 // messages, or topics, that one request asks for; NATS has a limit of 1,024
	maxLoads   = 2    // of topics, side by side: more wait, and are loaded together
	maxReads   = 16   // requests under way, of all loads: one that needs few does not wait for one that needs many
	maxExtra   = 16   // requests that only count
	staleWait  = 20 * time.Millisecond
	behindWait = 10 * time.Second // for a server that is behind to get as far as the leader
)

// job is one time of loading a feed.
type job struct {
	*feed
	subject string
	from    uint64            // the first number that is needed
	end     uint64            // the last one: what comes after it comes live
	newest  uint64            // number of the last message on the subject, or the end if that is not known
	late    uint64            // subscribers may have been given other messages up to this number
	fetched map[string]uint64 // for each subject, the number of the newest message that was fetched
}

// supply loads the patterns that the hub wants, until ctx ends. The replica is ready once those are loaded that it wants
// at first.
func (s *session) supply(ctx context.Context) error {
	var loads sync.WaitGroup
	load := func(topics, wildcards []*job) (rest *sync.WaitGroup) {
		rest = new(sync.WaitGroup)
		for _, j := range wildcards { // each by itself, as it may take long
			rest.Go(func() { s.load(ctx, []*job{j}) })
		}
		s.load(ctx, topics)
		return rest
	}
	topics, wildcards := s.feeds.take()
	loads.Go(func() {
		if load(topics, wildcards).Wait(); ctx.Err() == nil {
			s.caughtUp.Store(true)
			s.report(following, "")
		}
	})
	for range maxLoads {
		loads.Go(func() {
			for {
				select {
				case <-s.feeds.changed:
					loads.Go(load(s.feeds.take()).Wait)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	loads.Wait()
	return context.Cause(ctx)
}

// sweep gives back what patterns take that nobody has followed for a while.
func (s *session) sweep() {
	var patterns []event.Pattern
	for _, f := range s.feeds.sweep() {
		patterns = append(patterns, f.pattern)
		if f.sub != nil {
			_ = f.sub.Unsubscribe() // fails only if the connection is closed
		}
	}
	s.events.Forget(patterns, s.feeds.needed)
}

// load loads these feeds, however often it has to try. Even without feeds it finds out whether that would work.
func (s *session) load(ctx context.Context, jobs []*job) {
	for failed := false; ; failed = true {
		err := s.try(ctx, jobs)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && failed && s.caughtUp.Load():
			s.report(following, "")
			return
		case err == nil:
			return
		}
		s.report(following, fmt.Sprintf("messages of the stream %q are not loaded: %s", s.cfg.Stream, cause(err)))
		_ = wait(ctx, retryWait) // ctx is looked at
		jobs = slices.DeleteFunc(jobs, func(j *job) bool { return !s.feeds.isNeeded(j) })
	}
}

// try subscribes to what is needed, and hands the hub what the stream has of that. It loads what the stream has up to the
// end that its leader names. What comes after that comes live.
func (s *session) try(ctx context.Context, jobs []*job) error {
	for _, j := range jobs {
		if err := s.subscribe(j); err != nil {
			return fmt.Errorf("subscribe to the messages of %q: %w", j.pattern, err)
		}
	}
	// The leader has got the subscriptions.
	if err := s.sync(ctx); err != nil {
		return err
	}
	if err := s.look(ctx); err != nil {
		return fmt.Errorf("look at it: %w", err)
	}
	end := s.sight.Load().State.LastSeq
	// The hub has what came live up to the end. A later message must not overtake one that it has not.
	if err := s.sync(ctx); err != nil {
		return err
	}
	s.events.Release(end)
	for some := range slices.Chunk(jobs, perRequest) {
		some, err := s.prepare(ctx, some, end)
		if err != nil {
			return err
		}
		if err := s.fetchAll(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

// subscribe makes NATS send the messages of a feed, unless it does so already.
func (s *session) subscribe(j *job) error {
	j.subject = subjectOfPattern(s.cfg.Stream, j.pattern)
	has := func() bool { return !j.isCurrent() || j.sub != nil }
	s.feeds.mu.Lock()
	done := has()
	s.feeds.mu.Unlock()
	if done {
		return nil
	}
	sub, err := s.nc.ChanSubscribe(s.liveSubject(j.subject), s.inbox) // may wait for a link that stalls
	if err != nil {
		return err
	}
	s.feeds.mu.Lock()
	defer s.feeds.mu.Unlock()
	if has() {
		return sub.Unsubscribe()
	}
	j.sub = sub
	return nil
}

// sync returns when the hub has got everything that the stream's leader had sent to this replica when it was asked. It
// asks with a message that the leader must refuse, so nothing is stored. The answer goes the same way as the messages
// that the leader sends on, and the question the same way as the subscriptions before it: nothing overtakes anything. So
// the leader knows of these subscriptions, too.
func (s *session) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	question, came := nats.NewMsg(s.cfg.Stream+"."+syncToken), make(chan error, 1)
	question.Reply = s.echoes + nuid.Next()
	question.Header.Set(jetstream.ExpectedStreamHeader, ">") // no stream has this name
	s.waiting.Store(question.Reply, came)
	defer s.waiting.Delete(question.Reply)
	if err := s.nc.PublishMsg(question); err != nil {
		return err
	}
	select {
	case err := <-came:
		return err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return errors.New("its leader does not answer")
		}
		return context.Cause(ctx)
	}
}

// echo takes the answer to a sync.
func (s *session) echo(m *nats.Msg) {
	var err error
	if m.Header.Get("Status") == "503" {
		err = errors.New("it has no leader")
	} else {
		s.answered()
	}
	if came, waits := s.waiting.LoadAndDelete(m.Subject); waits {
		came.(chan error) <- err // has room for the only answer
	}
}

// prepare finds out what is to be fetched. It leaves out what is not needed any longer.
func (s *session) prepare(ctx context.Context, jobs []*job, end uint64) (needed []*job, err error) {
	var subjects []string
	s.feeds.mu.Lock()
	for _, j := range jobs {
		if !j.isCurrent() {
			continue
		}
		j.from, j.end, j.newest, j.late, j.fetched = j.upTo+1, end, end, j.handed, map[string]uint64{}
		if needed = append(needed, j); !j.pattern.IsWildcard() {
			subjects = append(subjects, j.subject)
		}
	}
	s.feeds.mu.Unlock()
	newest, err := s.newest(ctx, subjects, end)
	for _, j := range needed {
		if number, known := newest[j.subject]; known {
			j.newest = number
		}
	}
	return needed, err
}

// newest returns the numbers of the newest messages on these subjects, as far as they can be known: 0 is that of a subject
// that has none.
func (s *session) newest(ctx context.Context, subjects []string, end uint64) (newest map[string]uint64, err error) {
	if len(subjects) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, behindWait)
	defer cancel()
	newest = map[string]uint64{}
	for _, subject := range subjects {
		newest[subject] = 0
	}
	// There is always the marker, so the answer is never empty, which would not tell how far the server is.
	what := request{MultiLast: append(subjects, s.epochSubject()), MaxBytes: 4 * maxBytes}
	for {
		b, err := s.read(ctx, what)
		if err != nil {
			return nil, err
		}
		for _, m := range b.messages {
			newest[m.subject] = m.number
		}
		switch {
		case b.upTo == 0: // the marker is missing for a moment
			return nil, nil
		case b.upTo >= end && b.pending == 0:
			return newest, nil
		case b.upTo >= end:
			what.Seq = b.end + 1
		default: // the server that was asked is behind
			if err := wait(ctx, staleWait); err != nil {
				return nil, fmt.Errorf("a server of it stays behind: %w", err)
			}
		}
	}
}

// fetchAll fetches what these jobs need, hands it to the hub, and releases their subscribers.
func (s *session) fetchAll(ctx context.Context, jobs []*job) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan *job, len(jobs))
	var fetching sync.WaitGroup
	for _, j := range jobs {
		fetching.Go(func() {
			if err := s.fetch(ctx, j); err != nil {
				cancel(err)
				return
			}
			done <- j
		})
	}
	go func() {
		fetching.Wait()
		close(done)
	}()
	for j := range done {
		some := []*job{j}
		for n := len(done); n > 0; n-- { // these are done as well
			some = append(some, <-done)
		}
		s.release(some)
	}
	return context.Cause(ctx)
}

// release tells the hub that it has all messages of what was fetched.
func (s *session) release(jobs []*job) {
	var patterns []event.Pattern
	s.feeds.mu.Lock()
	for _, j := range jobs {
		switch {
		case !j.isCurrent():
			continue
		case j.feed.load(j):
			j.loaded, j.job = true, nil
		default:
			s.feeds.want(j.feed)
		}
		patterns = append(patterns, j.pattern)
	}
	s.feeds.mu.Unlock()
	s.events.Release(jobs[0].end, patterns...)
}

// fill hands the hub messages of a topic, with rising numbers, and notes that those up to lost may be lost. Without
// messages, a wildcard may stand for all its topics.
func (s *session) fill(j *job, topic string, lost uint64, messages []event.Message) error {
	if s.feeds.has(topic, func(f *feed) bool { return f.loaded && f != j.feed }) { // the hub has it already, and maybe more than the stream
		return nil
	}
	lowest, err := s.events.Fill(topic, lost, messages)
	switch {
	case errors.Is(err, event.ErrClosed): // it has no clients
		return nil
	case err != nil:
		return err
	}
	if lowest > 0 && lowest <= j.late {
		s.events.Miss(topic, j.end)
	}
	return nil
}

// fetch reads messages up to the end. Messages after the end are only counted: as they came, the stream may have dropped
// older ones.
func (s *session) fetch(ctx context.Context, j *job) error {
	// Some may have been removed since the feed was loaded before. If it never was, the hub assumes it anyway.
	if _, epoch, _ := s.truth.now(); j.from > 1 && epoch.floor >= j.from {
		if err := s.fill(j, string(j.pattern), epoch.floor, nil); err != nil {
			return err
		}
	}
	first, count, most := map[string]uint64{}, map[string]int64{}, s.sight.Load().Config.MaxMsgsPerSubject
	from, extra, pending := j.from, 0, uint64(0)
	for from <= j.newest || pending > 0 && extra < maxExtra {
		if !s.feeds.isNeeded(j) {
			return nil
		}
		b, err := s.read(ctx, request{Seq: from, NextFor: j.subject, Batch: perRequest, MaxBytes: maxBytes})
		if err != nil {
			return err
		}
		from, pending = max(from, b.end+1), b.pending
		topics := map[string][]event.Message{}
		for _, m := range b.messages {
			if m.replaces() { // nothing before it is missing, and nothing after it was dropped
				count[m.subject] = -most
			}
			if count[m.subject]++; first[m.subject] == 0 {
				first[m.subject] = m.number
			}
			if m.number > j.end {
				continue
			}
			if s.truth.learn(answer{source: fetched, place: m.place}) == wentBack {
				s.endSession(errReplaced)
				return errReplaced
			}
			j.fetched[m.subject] = m.number
			if message, is := s.message(m); is && j.pattern.Matches(message.Topic) {
				topics[message.Topic] = append(topics[message.Topic], message)
			}
		}
		for topic, messages := range topics {
			if err := s.fill(j, topic, 0, messages); err != nil {
				return err
			}
		}
		if from > j.newest {
			extra++
		} else if pending == 0 {
			gone, err := s.isGone(ctx, j.subject, from, j.end)
			if err != nil {
				return err
			}
			if gone {
				break
			}
		}
	}
	// A topic drops its oldest message for a newer one once it is full. If it is full now, it may have dropped some.
	for subject, n := range count {
		if topic, is := topicOf(s.cfg.Stream, subject); is && most > 0 && (n >= most || n > 0 && pending > 0) {
			if err := s.fill(j, topic, min(first[subject]-1, j.end), nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// isGone reports whether the stream has no more messages on a subject from that number up to the end: they were removed
// meanwhile. If it has, the server that was asked was behind, and isGone waits for it a little.
func (s *session) isGone(ctx context.Context, subject string, from, end uint64) (bool, error) {
	m, err := s.get(ctx, request{Seq: from, NextFor: subject})
	switch {
	case errors.Is(err, errGone), err == nil && m.number > end:
		return true, nil
	case err != nil:
		return false, err
	}
	return false, wait(ctx, staleWait)
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
