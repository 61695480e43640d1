package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"gin-sse/internal/event"
)

const (
	// leaderEvery is how often the stream's leader is asked for. Messages that the old leader stored last may not have
	// come, and those of the new one come all the same, so clients get a gap if this takes long. After a crash, the next
	// leader is elected no sooner than after about 3 s.
	leaderEvery = 500 * time.Millisecond
	leaderWait  = 1500 * time.Millisecond // for its answer
	silentFor   = 10 * time.Second        // how long a busy server may not answer

	checkEvery = 5 * time.Second  // how often the stream is looked at
	settled    = 15 * time.Second // how long a stream that ends before the last message that came may take to catch up
)

var (
	errFewer    = errors.New("it has fewer messages than before")
	errReplaced = errors.New("it has other messages than before")
	errNewEpoch = errors.New("it lost messages, as another replica found")
)

// Follow hands to the hub the messages that it wants, those that the stream has and those to come, until ctx ends. When
// NATS or the stream goes away, Follow goes on as soon as it is back. Call Follow once.
func (r *Replica) Follow(ctx context.Context) {
	defer context.AfterFunc(ctx, r.stop)()
	if err := r.connect(ctx); err != nil {
		r.setProblem("NATS cannot be used: " + cause(err))
		r.tell("NATS cannot be used: " + cause(err))
		return
	}
	for ctx.Err() == nil {
		err := r.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case !r.nc.IsConnected():
			r.setProblem("NATS cannot be reached")
		default:
			problem := fmt.Sprintf("the stream %q is not followed: %s", r.cfg.Stream, cause(err))
			r.setProblem(problem)
			if !errors.Is(err, context.Canceled) && !errors.Is(err, errNewEpoch) { // these need no line: the connection is back, or place logs the reason
				r.tell("NATS: " + problem)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryWait):
		}
	}
}

// setProblem sets why the stream is not followed. The empty string means that it is.
func (r *Replica) setProblem(problem string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if problem == "" {
		clear(r.told)
	}
	r.problem = problem
}

// session is one time of following the stream, until something goes wrong.
type session struct {
	*Replica
	connection uint64 // all that the session knows came over this one
	stream     jetstream.Stream
	inbox      chan *nats.Msg // what comes live, in order
	fencing    sync.Mutex     // one fence is waited for at a time
	fences     chan uint64    // numbers of the fences that came
	wildcards  chan []*need
	sure       uint64 // all messages up to this number came, as the leader was the same one afterwards
	resumed    uint64 // number of the last message that came before the session
	perSubject int64  // how many messages the stream keeps for each subject
	leader     string // the server that leads the stream, or empty
}

// follow hands messages to the hub until something goes wrong.
func (r *Replica) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.mu.Lock()
	r.lost = cancel // from here on, a lost connection ends the session
	r.mu.Unlock()
	if !r.nc.IsConnected() {
		return context.Canceled // it is known to be lost
	}
	connection := r.connections()
	r.mu.Lock()
	r.followed = connection
	r.mu.Unlock()
	defer func() { // while nothing comes, nothing may overtake what did not come
		r.demand.unload(r.demand.all()...)
		r.events.HoldAll()
	}()

	stream, err := r.open(ctx)
	if err != nil {
		return fmt.Errorf("open it: %w", err)
	}
	if _, err := stream.Info(ctx); err != nil { // after a change, the leader is missing
		return fmt.Errorf("look at it: %w", err)
	}
	s := &session{
		Replica:    r,
		connection: connection,
		stream:     stream,
		inbox:      make(chan *nats.Msg, maxInbox),
		fences:     make(chan uint64, 1),
		wildcards:  make(chan []*need),
		resumed:    r.at,
		perSubject: stream.CachedInfo().Config.MaxMsgsPerSubject,
		leader:     leader(stream.CachedInfo()),
	}
	if err := s.place(ctx); err != nil {
		return err
	}
	defer s.end()
	if err := s.begin(); err != nil {
		return err
	}
	var parts sync.WaitGroup
	defer parts.Wait()
	for _, part := range []func(context.Context) error{s.listen, s.supply, s.supplyWildcards, s.watch} {
		parts.Go(func() { cancel(part(ctx)) })
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// begin subscribes to what the replica itself has to know.
func (s *session) begin() error {
	s.following.Lock()
	defer s.following.Unlock()
	for _, f := range s.follows {
		f.begin()
	}
	for _, subject := range []string{s.fenceSubject(), s.epochSubject()} {
		live, err := s.nc.ChanSubscribe(s.liveSubject(subject), s.inbox)
		if err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		s.own = append(s.own, live)
	}
	return nil
}

// end gives up the session's subscriptions.
func (s *session) end() {
	s.following.Lock()
	defer s.following.Unlock()
	for _, f := range s.follows {
		if f.live != nil {
			s.own = append(s.own, f.live)
		}
		if f.loaded {
			f.handed = s.handed
		}
		f.upTo = min(f.upTo, max(f.fetched, s.sure)) // what came later may be from another leader, and not be all
	}
	for _, live := range s.own {
		_ = live.Unsubscribe() // fails only if the connection is closed
	}
	s.own = nil
}

// supply loads the keys that the hub wants, until ctx ends. It leaves wildcards to supplyWildcards: they may take long, and
// no topic should wait for them.
func (s *session) supply(ctx context.Context) error {
	needs := s.demand.take()
	s.forgetExcept(needs)
	if err := s.load(ctx, needs); err != nil {
		return err
	}
	s.setProblem("")
	sweep := time.NewTicker(max(s.cfg.Linger/10, time.Millisecond))
	defer sweep.Stop()
	var wildcards []*need
	for {
		var hand chan<- []*need // nil while there is nothing to hand over
		if len(wildcards) > 0 {
			hand = s.wildcards
		}
		select {
		case <-s.demand.changed:
			var topics []*need
			for _, need := range s.demand.take() {
				if need.pattern.IsWildcard() {
					wildcards = append(wildcards, need)
				} else {
					topics = append(topics, need)
				}
			}
			if len(topics) == 0 {
				continue
			}
			if err := s.load(ctx, topics); err != nil {
				return err
			}
		case hand <- wildcards:
			wildcards = nil
		case <-sweep.C:
			if err := s.unfollow(); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// supplyWildcards loads what supply leaves to it, until ctx ends.
func (s *session) supplyWildcards(ctx context.Context) error {
	for {
		select {
		case needs := <-s.wildcards:
			if err := s.load(ctx, needs); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// forgetExcept forgets the follows of earlier sessions that are no longer needed.
func (s *session) forgetExcept(needs []*need) {
	s.following.Lock()
	defer s.following.Unlock()
	kept := make(map[event.Pattern]*follow, len(needs))
	for _, need := range needs {
		if f := s.follows[need.pattern]; f != nil {
			kept[need.pattern] = f
		}
	}
	s.follows = kept
}

// watch looks at the stream until something is wrong with it.
func (s *session) watch(ctx context.Context) error {
	answered := time.Now()
	soon, later := time.NewTicker(leaderEvery), time.NewTicker(checkEvery)
	defer soon.Stop()
	defer later.Stop()
	for {
		select {
		case <-soon.C:
			switch err := s.look(ctx); {
			case err == nil:
				answered = time.Now()
			case !errors.Is(err, context.DeadlineExceeded) || time.Since(answered) > silentFor:
				return fmt.Errorf("look at it: %w", err)
			}
		case <-later.C:
			if err := s.check(ctx); err != nil {
				return fmt.Errorf("look at it: %w", err)
			}
			s.stream = s.allowMore(ctx, s.stream)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// look finds out whether the stream is still the same one, with the same leader.
func (s *session) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	at, _ := s.newestCame()
	info, err := s.stream.Info(ctx)
	if err != nil {
		return err
	}
	switch {
	case !info.Created.Equal(s.created):
		return errors.New("it was deleted and made anew")
	case leader(info) != s.leader:
		return errors.New("it has another leader")
	case info.State.LastSeq < at:
		return errFewer
	case !s.sendsOn(info.Config), info.Config.MaxMsgsPerSubject != s.perSubject:
		return errors.New("its settings were changed")
	}
	s.following.Lock()
	s.sure = at
	s.following.Unlock()
	s.events.See(info.State.LastSeq)
	if limited(info.Config) {
		s.lose(firstOf(info) - 1)
	}
	return nil
}

// check finds out whether messages were replaced or removed.
func (s *session) check(ctx context.Context) error {
	same, known, err := s.same(ctx)
	if err != nil || known && !same {
		return cmp.Or(err, errReplaced)
	}
	now, err := s.epochNow(ctx, s.created)
	switch {
	case err != nil:
		return err
	case now.number == 0:
		return errors.New("messages were removed") // the next session marks how many
	}
	return s.newMarker(now)
}

// newMarker takes note of a marker that came.
func (s *session) newMarker(now marker) error {
	s.following.Lock()
	defer s.following.Unlock()
	switch {
	case now.number <= s.epoch.number:
		return nil
	case now.epoch != s.epoch.epoch:
		return errNewEpoch
	}
	s.epoch.number = now.number
	s.removed(now.floor)
	return nil
}

// lose takes note that messages up to that number were removed from the stream.
func (s *session) lose(number uint64) {
	s.following.Lock()
	defer s.following.Unlock()
	if number > s.epoch.floor {
		s.epoch.floor = number
		s.events.LoseAll(number)
	}
}

// removed is lose, with a line for the operator. The caller has the lock.
func (r *Replica) removed(number uint64) {
	if number <= r.epoch.floor {
		return
	}
	r.epoch.floor = number
	r.events.LoseAll(number)
	r.cfg.Log("NATS: messages were removed from the stream %q, up to number %d; clients that miss them are told of a gap", r.cfg.Stream, number)
}

// leader returns the name of the server that leads the stream, or the empty string if there is only one server.
func leader(info *jetstream.StreamInfo) string {
	if info.Cluster == nil {
		return ""
	}
	return info.Cluster.Leader
}

// firstOf returns the number of the stream's first message, or of the next one if it is empty.
func firstOf(info *jetstream.StreamInfo) uint64 { return max(info.State.FirstSeq, 1) }

// place decides where to go on in the stream: where the last session stopped or, in another epoch, at the beginning.
func (s *session) place(ctx context.Context) error {
	info := s.stream.CachedInfo()
	epoch, err := s.epochNow(ctx, info.Created)
	if err != nil {
		return err
	}
	if !info.Created.Equal(s.created) {
		if epoch.number == 0 {
			if epoch, err = s.setEpoch(ctx, epoch.epoch, 0, firstOf(info)-1, info.Created); err != nil {
				return err
			}
		}
		return s.beginEpoch(ctx, epoch)
	}
	if epoch.epoch != s.epoch.epoch && epoch.number > 0 {
		s.cfg.Log("NATS: the stream %q lost messages, as another replica found; clients are told of a gap", s.cfg.Stream)
		return s.beginEpoch(ctx, epoch)
	}
	lost, err := s.hasLost(ctx, info.State.LastSeq)
	switch {
	case err != nil:
		return err
	case lost != "":
		epoch, err = s.setEpoch(ctx, base36(time.Now()), epoch.number, firstOf(info)-1, info.Created)
		if err != nil {
			return err
		}
		s.cfg.Log("NATS: the stream %q has lost messages: %s; clients are told of a gap", s.cfg.Stream, lost)
		return s.beginEpoch(ctx, epoch)
	case epoch.number == 0: // somebody removed it, and so all that was before it
		epoch, err = s.setEpoch(ctx, s.epoch.epoch, 0, firstOf(info)-1, info.Created)
		if err != nil {
			return err
		}
		if epoch.epoch != s.epoch.epoch {
			return errNewEpoch
		}
	}
	s.following.Lock()
	defer s.following.Unlock()
	s.epoch.number = epoch.number
	s.removed(epoch.floor)
	return nil
}

// hasLost returns what shows that messages that came are no longer in the stream, so that other messages may
// have their numbers. It returns the empty string if nothing does.
func (r *Replica) hasLost(ctx context.Context, last uint64) (string, error) {
	if last < r.at {
		if r.behind.IsZero() { // a new leader may know of more messages in a moment
			r.behind = time.Now()
		}
		if time.Since(r.behind) < settled {
			return "", errFewer
		}
		return fmt.Sprintf("it ends with number %d, but number %d had come", last, r.at), nil
	}
	same, known, err := r.same(ctx)
	switch {
	case err != nil:
		return "", err
	case known && !same:
		return fmt.Sprintf("number %d is another message now", r.at), nil
	case !known && !r.behind.IsZero():
		return fmt.Sprintf("it ended before number %d, and has gone on since", r.at), nil
	}
	r.behind = time.Time{}
	return "", nil
}

// same reports whether the last message that came is still in the stream. That is unknown if its number is
// missing: the stream may have dropped it to make room.
func (r *Replica) same(ctx context.Context) (same, known bool, err error) {
	at, stamp := r.newestCame()
	if stamp.IsZero() {
		return false, false, nil
	}
	m, err := r.get(ctx, request{Seq: at})
	if errors.Is(err, errGone) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	return m.Time.Equal(stamp), true, nil
}

// reached notes the newest message that came. The caller has the lock.
func (r *Replica) reached(number uint64, stored time.Time) {
	if number > r.at {
		r.at, r.stamp = number, stored
	}
}

// newestCame returns the number of the newest message that came, and when it was stored, if that is known.
func (r *Replica) newestCame() (number uint64, stored time.Time) {
	r.following.Lock()
	defer r.following.Unlock()
	return r.at, r.stamp
}

// beginEpoch tells the hub of a new epoch, in which everything is loaded again.
func (s *session) beginEpoch(ctx context.Context, epoch marker) error {
	info := s.stream.CachedInfo()
	seen := info.State.LastSeq
	if s.created.IsZero() {
		first, err := s.get(ctx, request{StartTime: &s.started, NextFor: ">"})
		if err != nil && !errors.Is(err, errGone) {
			return fmt.Errorf("find where the stream was at the start: %w", err)
		}
		if err == nil && !first.Time.Before(s.started) {
			seen = first.Sequence - 1
		}
	}
	s.following.Lock()
	defer s.following.Unlock()
	s.handed = 0
	s.created, s.epoch, s.at, s.stamp, s.behind = info.Created, epoch, 0, time.Time{}, time.Time{}
	s.follows, s.resumed = map[event.Pattern]*follow{}, 0
	s.demand.begin()
	s.tails.forget()
	s.events.Begin(epoch.epoch, epoch.floor, seen)
	return nil
}
