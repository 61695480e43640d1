package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	lookEvery = 500 * time.Millisecond // how often the stream is looked at while messages come
	idleEvery = 2 * time.Second        // how often NATS is asked for something otherwise
	silentFor = 4500 * time.Millisecond
	settled   = 15 * time.Second // how long a new leader may take to have all messages that came
	nameWait  = 5 * time.Second  // how long other replicas may take to store the marker once more
	firstWait = 2 * time.Second  // how long they may take to look at a NATS that has just come up, and may have an older copy
)

var (
	errDisconnected = errors.New("the connection to NATS is lost")
	errDeleted      = errors.New("it was deleted and made anew")
	errFewer        = errors.New("it has fewer messages than before")
	errReplaced     = errors.New("it has other messages than before")
	errNoMarker     = errors.New("it has lost the name of its epoch, which another replica may still know")
	errFirst        = errors.New("NATS has just come up, and another replica may know more of the stream")
	errNewEpoch     = errors.New("it lost messages, as another replica found")
)

// session is one time of following the stream, over one connection, until the stream is no longer the one that it was.
type session struct {
	*Replica
	connection uint64               // all that the session knows came over this one
	inbox      chan *nats.Msg       // what comes live, in order
	own        []*nats.Subscription // those that belong to no feed
	perSubject atomic.Int64         // how many messages the stream keeps for each subject
	reads      chan struct{}        // has a value for each request that is under way
	checks     chan struct{}        // has a value when the epoch must be checked
	removals   chan uint64          // numbers of messages that seem to have been removed
	caughtUp   atomic.Bool          // what was needed at first is loaded

	handing sync.Mutex // a message is handed over, or subscribers are held

	syncing sync.Mutex
	syncs   int    // how many there were
	echoes  string // what the subjects of their answers begin with
	waiting map[string]chan error

	looking sync.Mutex // one look at a time
	stream  jetstream.Stream

	sight atomic.Pointer[sight]
}

// sight is what a session knows of the stream since it last looked at it.
type sight struct {
	*jetstream.StreamInfo
	asOf  time.Time // when the leader was asked for that
	asked time.Time // when it was last asked; it may have given no answer yet
	sure  uint64    // all messages up to this number came, as the leader was the same one afterwards
}

// Follow hands to the hub the messages that it wants, those that the stream has and those to come, until ctx ends. When
// NATS or the stream goes away, Follow goes on as soon as it is back. Call Follow once.
func (r *Replica) Follow(ctx context.Context) {
	defer context.AfterFunc(ctx, r.stop)()
	if err := r.connect(ctx); err != nil {
		r.report(following, "NATS cannot be used: "+cause(err))
		return
	}
	for ctx.Err() == nil {
		err := r.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case !r.nc.IsConnected(), errors.Is(err, errDisconnected): // there is a line already
			r.setProblem(following, "NATS cannot be reached")
		case errors.Is(err, errNewEpoch): // there will be
			r.setProblem(following, cause(err))
		default:
			r.report(following, fmt.Sprintf("the stream %q is not followed: %s", r.cfg.Stream, cause(err)))
		}
		_ = wait(ctx, retryWait) // ctx is looked at
	}
}

// follow hands messages to the hub until something goes wrong.
func (r *Replica) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.setSession(cancel) // from here on, a lost connection ends the session
	if !r.nc.IsConnected() {
		return errDisconnected
	}
	connection := r.connections()
	s := &session{
		Replica:    r,
		connection: connection,
		inbox:      make(chan *nats.Msg, maxInbox),
		reads:      make(chan struct{}, maxReads),
		checks:     make(chan struct{}, 1),
		removals:   make(chan uint64, 1),
		echoes:     r.nc.NewInbox() + ".",
		waiting:    map[string]chan error{},
	}
	defer r.events.HoldAll() // while nothing comes, nothing may overtake what did not come
	defer s.end()
	stream, err := r.open(ctx)
	if err != nil {
		return fmt.Errorf("open it: %w", err)
	}
	s.stream = stream
	if err := s.place(ctx); err != nil {
		return err
	}
	if err := s.proveMore(ctx); err != nil {
		return err
	}
	for _, subject := range []string{s.liveSubject(s.epochSubject()), s.echoes + "*"} {
		live, err := s.nc.ChanSubscribe(subject, s.inbox)
		if err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		s.own = append(s.own, live)
	}
	r.setPlaced(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	for _, part := range []func(context.Context) error{s.listen, s.supply, s.watch, s.noticeSilence} {
		parts.Go(func() { r.endSession(part(ctx)) })
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// end gives up the session's subscriptions, and has everything loaded again in the next one.
func (s *session) end() {
	for _, live := range append(s.own, s.feeds.unsubscribed()...) {
		_ = live.Unsubscribe() // fails only if the connection is closed
	}
	if last := s.sight.Load(); last != nil {
		s.feeds.reset(last.sure, false)
	}
}

// look asks the stream's leader how the stream ends, and finds out whether it is still the same one.
func (s *session) look(ctx context.Context) error {
	s.looking.Lock()
	defer s.looking.Unlock()
	before, at, seen := s.sight.Load(), time.Now(), s.feeds.newest()
	s.sight.Store(&sight{before.StreamInfo, before.asOf, at, before.sure})
	_, _, known := s.truth.now()
	now, err := s.ask(ctx)
	if err != nil {
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			s.endSession(err)
		}
		return err
	}
	switch err := s.learnState(now, known); {
	case err != nil:
		s.endSession(err)
		return err
	case !s.sendsOn(now.Config):
		s.endSession(errors.New("its settings were changed"))
	}
	moved := leader(now) != leader(before.StreamInfo)
	if moved { // what the one before stored last may not have come
		seen = before.sure
		s.repair(seen)
	}
	s.sight.Store(&sight{now, at, at, seen})
	s.adopt(now)
	_, epoch, _ := s.truth.now()
	if moved || now.State.Subjects[s.epochSubject()] == 0 || epoch.isDue(now, s.late) {
		select {
		case s.checks <- struct{}{}:
		default: // it has a value
		}
	}
	return nil
}

// repair has everything loaded again that is not sure to have come, and holds the subscribers until it is. No message is
// handed over meanwhile.
func (s *session) repair(sure uint64) {
	s.handing.Lock()
	defer s.handing.Unlock()
	s.events.Hold(s.feeds.reset(sure, false)...)
}

// ask asks the stream's leader for the stream's state and settings.
func (s *session) ask(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	now, err := s.stream.Info(ctx, jetstream.WithSubjectFilter(s.epochSubject()))
	switch {
	case err != nil:
		return nil, err
	case s.connection != s.connections():
		return nil, errDisconnected
	case now.Cluster != nil && now.Cluster.Leader == "":
		return nil, errors.New("it has no leader")
	}
	s.answered()
	return now, nil
}

// learnState returns an error if the stream is not the one that is known, or has lost messages. known is the highest number
// that was known when NATS was asked.
func (r *Replica) learnState(now *jetstream.StreamInfo, known uint64) error {
	switch r.truth.learn(answer{source: info, created: now.Created, known: known, place: place{number: now.State.LastSeq}}) {
	case isAnother:
		return errDeleted
	case wentBack:
		return errFewer
	}
	return nil
}

// adopt takes note of the stream's state and settings.
func (s *session) adopt(now *jetstream.StreamInfo) {
	s.perSubject.Store(now.Config.MaxMsgsPerSubject)
	if first := firstOf(now) - 1; limited(now.Config) && s.truth.lose(first) {
		s.events.LoseAll(first)
	}
}

// watch looks at the stream until ctx ends. It asks NATS for one thing at a time: an idle replica is nearly silent.
func (s *session) watch(ctx context.Context) error {
	tick := time.NewTicker(idleEvery)
	defer tick.Stop()
	for turn := 0; ; {
		err := error(nil)
		select {
		case <-tick.C:
			turn++
			last := s.sight.Load()
			s.events.See(last.State.LastSeq)
			switch {
			case s.problemOf(publishing) != "":
				s.tryToStore(ctx)
			case turn%6 == 0:
				if err = s.checkEpoch(ctx); err == nil {
					s.mayMore(ctx)
				}
			case turn%6 == 3:
				err = s.proveMore(ctx)
			case time.Since(last.asked) > idleEvery/2:
				_ = s.look(ctx) // no answer is noticed by the silence, and everything else ends the session
			}
		case <-s.checks:
			if err = s.prove(ctx); err == nil {
				err = s.checkEpoch(ctx)
			}
		case <-s.doubts:
			s.tryToStore(ctx)
		case number := <-s.removals:
			err = s.checkRemoved(ctx, number)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if errors.Is(err, errReplaced) || errors.Is(err, errNewEpoch) {
			return err
		}
	}
}

// noticeSilence logs that NATS does not answer, until ctx ends. watch cannot, as it waits for answers itself.
func (s *session) noticeSilence(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.listenForSilence()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
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
	lost := ""
	if now.Created.Equal(created) {
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
	if created.IsZero() {
		switch {
		case epoch.number == 0 && now.State.LastSeq > 0 && !s.hasWaited(nameWait):
			return errNoMarker
		case epoch.number > 0 && s.refused.Load() && !s.hasWaited(firstWait):
			return errFirst
		}
	}
	s.waits = time.Time{}
	floor := firstOf(now) - 1
	switch name := base36(time.Now()); {
	case !now.Created.Equal(created):
		if epoch.number == 0 {
			if now.State.LastSeq == 0 {
				name = base36(now.Created)
			}
			epoch, err = s.writeMarker(ctx, marker{name: name, floor: floor})
		}
		if err == nil {
			err = s.beginEpoch(ctx, epoch, now)
		}
		return err
	case epoch.isAfter(known):
		s.cfg.Log("NATS: the stream %q lost messages, as another replica found; clients are told of a gap", s.cfg.Stream)
		return s.beginEpoch(ctx, epoch, now)
	case lost != "":
		if epoch, err = s.writeMarker(ctx, marker{name: name, number: epoch.number, floor: floor}); err != nil {
			return err
		}
		s.cfg.Log("NATS: the stream %q has lost messages: %s; clients are told of a gap", s.cfg.Stream, lost)
		return s.beginEpoch(ctx, epoch, now)
	}
	if err := s.checkEpoch(ctx); err != nil {
		return err
	}
	s.adopt(now)
	return nil
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

// prove finds out whether a message that is known is still the same one. If the stream has dropped it, the messages that it
// has stored since then must have higher numbers.
func (s *session) prove(ctx context.Context) error {
	known, source := s.truth.toProve(), fetched
	if known.key == "" {
		return nil
	}
	m, err := s.get(ctx, request{Seq: known.number})
	if errors.Is(err, errGone) && !known.stored.IsZero() {
		m, err = s.get(ctx, request{StartTime: &known.stored, NextFor: ">"})
		source = sinceThen
	}
	switch {
	case errors.Is(err, errGone):
		return nil
	case err != nil:
		return err
	case s.connection != s.connections():
		return errDisconnected
	case s.truth.learn(answer{source: source, place: m.place()}) == wentBack:
		return fmt.Errorf("%w: number %d is another message now", errReplaced, max(known.number, m.Sequence))
	}
	return nil
}

// proveMore reads the last message, which then proves more than one before it.
func (s *session) proveMore(ctx context.Context) error {
	m, err := s.get(ctx, request{Seq: s.sight.Load().State.LastSeq})
	if err == nil && s.truth.learn(answer{source: fetched, place: m.place()}) == wentBack {
		return errReplaced
	}
	return nil // a message that is gone proves nothing, and no answer is noticed otherwise
}

// checkEpoch reads the marker, and stores it once more if it is missing or soon will be.
func (s *session) checkEpoch(ctx context.Context) error {
	now, err := s.readMarker(ctx)
	if err != nil {
		return err
	}
	_, known, _ := s.truth.now()
	stream := s.sight.Load().StreamInfo
	switch isGone := now.number == 0; {
	case !isGone && now.name != known.name && !now.isAfter(known):
		return errReplaced // that epoch was over
	case isGone, now.name == known.name && now.isDue(stream, s.late):
		if isGone || limited(stream.Config) {
			now.floor = max(now.floor, firstOf(stream)-1)
		}
		return s.renew(ctx, marker{name: known.name, number: now.number, floor: now.floor})
	}
	return s.newMarker(now)
}

// renew stores the marker once more.
func (s *session) renew(ctx context.Context, m marker) error {
	now, err := s.writeMarker(ctx, m)
	if err != nil {
		s.report(publishing, "messages are not stored: "+cause(err))
		return nil
	}
	return s.newMarker(now)
}

// checkRemoved finds out whether a message was removed that was the last one on its subject. NATS does that for limits that
// are known, and otherwise somebody has removed the messages of a topic. Only a replica that had them can know, so it tells
// all others: messages of any topic up to there may be missing.
func (s *session) checkRemoved(ctx context.Context, number uint64) error {
	_, known, _ := s.truth.now()
	if number <= known.floor {
		return nil
	}
	if _, err := s.get(ctx, request{Seq: number}); !errors.Is(err, errGone) {
		return err
	}
	now, err := s.readMarker(ctx)
	if err != nil || now.name != known.name {
		return err
	}
	return s.renew(ctx, marker{name: now.name, number: now.number, floor: max(now.floor, number)})
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
		if err == nil && !first.Time.Before(s.started) {
			seen = first.Sequence - 1
		}
	}
	s.truth.begin(now.Created, epoch)
	if err := s.learnState(now, 0); err != nil { // its last number is known from here on
		return err
	}
	s.feeds.reset(0, true)
	s.published.forget()
	s.events.Begin(epoch.name, epoch.floor, seen)
	s.adopt(now)
	return nil
}

// tryToStore finds out whether NATS stores messages: it stores the marker once more.
func (s *session) tryToStore(ctx context.Context) {
	var now marker
	_, known, _ := s.truth.now()
	err := s.look(ctx) // there may be no stream
	if err == nil {
		now, err = s.writeMarker(ctx, marker{name: known.name, number: known.number, floor: known.floor})
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		s.report(publishing, "messages are not stored: "+cause(err))
	default:
		s.report(publishing, "")
		if err := s.newMarker(now); err != nil {
			s.endSession(err)
		}
	}
}

// mayMore makes the stream take batches and receipts, if it does not yet.
func (s *session) mayMore(ctx context.Context) {
	s.looking.Lock()
	defer s.looking.Unlock()
	s.stream = s.allowMore(ctx, s.stream)
}

// leader returns the name of the server that leads the stream, or the empty string if there is only one server.
func leader(now *jetstream.StreamInfo) string {
	if now.Cluster == nil {
		return ""
	}
	return now.Cluster.Leader
}

// firstOf returns the number of the stream's first message, or of the next one if it is empty.
func firstOf(now *jetstream.StreamInfo) uint64 { return max(now.State.FirstSeq, 1) }
