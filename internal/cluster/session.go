package cluster

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	lookEvery = 500 * time.Millisecond // how often the stream is looked at while messages come
	idleEvery = 2 * time.Second        // how often NATS is asked for something otherwise
	maxChecks = 16                     // that wait
)

var (
	errDisconnected = errors.New("the connection to NATS is lost")
	errDeleted      = errors.New("it was deleted and made anew")
	errFewer        = errors.New("it has fewer messages than before")
	errReplaced     = errors.New("it has other messages than before")
)

// session is one time of following the stream, over one connection, until the stream is no longer the one that it was.
type session struct {
	*Replica
	ctx        context.Context // ends with the session
	cancel     context.CancelCauseFunc
	connection uint64      // all that the session knows came over this one
	placed     atomic.Bool // the stream was found to be the known one
	caughtUp   atomic.Bool // what was needed at first is loaded

	stream jetstream.Stream
	inbox  chan *nats.Msg                   // what comes live, in order
	own    []*nats.Subscription             // those that belong to no feed
	reads  chan struct{}                    // has a value for each request that is under way
	checks chan func(context.Context) error // has a value when watch is to check something

	handing sync.Mutex // a message is handed over, or subscribers are held
	echoes  string     // what the subjects of the answers to a sync begin with
	waiting sync.Map   // of these subjects: a chan error for each sync

	looking sync.Mutex // one look at a time
	sight   atomic.Pointer[sight]
}

// sight is what a session knows of the stream since it last looked at it.
type sight struct {
	*jetstream.StreamInfo
	asOf  time.Time // when the leader was asked for that
	asked time.Time // when it was last asked; it may have given no answer yet
}

// Follow hands to the hub the messages that it wants, those that the stream has and those to come, until ctx ends. When
// NATS or the stream goes away, Follow goes on as soon as it is back. Call Follow once.
func (r *Replica) Follow(ctx context.Context) {
	defer context.AfterFunc(ctx, r.stop)()
	if err := r.connect(); err != nil {
		r.report(following, "NATS cannot be used: "+cause(err))
		return
	}
	for ctx.Err() == nil {
		err := r.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case !r.nc.IsConnected(), errors.Is(err, errDisconnected):
			r.setProblem(following, "NATS cannot be reached")
			if created, _, _ := r.truth.now(); created.IsZero() { // no handler is told why NATS refuses the first connection
				r.unreachable(r.nc.LastError())
			}
		case errors.Is(err, errNewEpoch): // there will be a line
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
	s := &session{
		Replica:    r,
		ctx:        ctx,
		cancel:     cancel,
		connection: r.connections(),
		inbox:      make(chan *nats.Msg, maxInbox),
		reads:      make(chan struct{}, maxReads),
		checks:     make(chan func(context.Context) error, maxChecks),
		echoes:     r.nc.NewInbox() + ".",
	}
	r.current.Store(s) // from here on, a lost connection ends the session
	if !r.nc.IsConnected() {
		return errDisconnected
	}
	defer r.silence.Stop()
	defer r.events.HoldAll() // while nothing comes, nothing may overtake what did not come
	defer s.end()
	if err := s.begin(ctx); err != nil {
		return err
	}
	var parts sync.WaitGroup
	for _, part := range []func(context.Context) error{s.listen, s.supply, s.watch, s.commit} {
		parts.Go(func() { r.endSession(part(ctx)) })
	}
	parts.Wait()
	return context.Cause(ctx)
}

// begin finds out where to go on in the stream, and subscribes to what every replica needs.
func (s *session) begin(ctx context.Context) (err error) {
	if s.stream, err = s.find(ctx); err != nil {
		return fmt.Errorf("open it: %w", err)
	}
	s.mayMore(ctx)
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
	s.placed.Store(true)
	return nil
}

// end gives up the session's subscriptions, and has everything loaded again in the next one.
func (s *session) end() {
	for _, live := range append(s.own, s.feeds.unsubscribed()...) {
		_ = live.Unsubscribe() // fails only if the connection is closed
	}
	s.feeds.reset(false)
}

// look asks the stream's leader how the stream ends, and finds out whether it is still the same one.
func (s *session) look(ctx context.Context) error {
	s.looking.Lock()
	defer s.looking.Unlock()
	before, at, newest := s.sight.Load(), time.Now(), s.feeds.newest.Load()
	s.sight.Store(&sight{before.StreamInfo, before.asOf, at})
	_, _, known := s.truth.now()
	now, err := s.ask(ctx)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		s.endSession(err)
		return err
	case err != nil:
		return err
	}
	if err := s.learnState(now, known); err != nil {
		s.endSession(err)
		return err
	}
	if !reflect.DeepEqual(s.equipped(now.Config), now.Config) {
		s.endSession(errors.New("its settings were changed"))
	}
	moved := leader(now) != leader(before.StreamInfo)
	if moved { // what the one before stored last may not have come
		s.repair()
	} else {
		s.feeds.sure.Store(newest)
	}
	s.sight.Store(&sight{now, at, at})
	s.adopt(now)
	if _, epoch, _ := s.truth.now(); moved || now.State.Subjects[s.epochSubject()] == 0 || epoch.isDue(now, s.late) {
		s.check(func(ctx context.Context) error {
			if err := s.prove(ctx); err != nil {
				return err
			}
			return s.checkEpoch(ctx, 0, false)
		})
	}
	return nil
}

// check has watch check something, unless it is busy with very much else.
func (s *session) check(do func(context.Context) error) {
	select {
	case s.checks <- do:
	default:
	}
}

// repair has everything loaded again that is not sure to have come, and holds the subscribers until it is. No message is
// handed over meanwhile.
func (s *session) repair() {
	s.handing.Lock()
	defer s.handing.Unlock()
	s.events.Hold(s.feeds.reset(false)...)
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

// adopt takes note of what the stream has dropped for its limits.
func (s *session) adopt(now *jetstream.StreamInfo) {
	if first := firstOf(now) - 1; limited(now.Config) && s.truth.mark(marker{floor: first}) {
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
				err = s.tryToStore(ctx)
			case turn%6 == 0:
				if err = s.checkEpoch(ctx, 0, false); err == nil {
					s.mayMore(ctx)
				}
			case turn%6 == 3:
				err = s.proveMore(ctx)
			case time.Since(last.asked) > idleEvery/2:
				_ = s.look(ctx) // no answer is noticed by the silence, and everything else ends the session
			}
		case check := <-s.checks:
			err = check(ctx)
		case <-s.doubts:
			err = s.tryToStore(ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if isOver(err) {
			return err
		}
	}
}

// isOver reports whether an error says that the epoch is over.
func isOver(err error) bool { return errors.Is(err, errReplaced) || errors.Is(err, errNewEpoch) }

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
	case s.truth.learn(answer{source: source, place: m.place}) == wentBack:
		return fmt.Errorf("%w: number %d is another message now", errReplaced, max(known.number, m.number))
	}
	return nil
}

// proveMore reads the last message, which then proves more than one before it.
func (s *session) proveMore(ctx context.Context) error {
	m, err := s.get(ctx, request{Seq: s.sight.Load().State.LastSeq})
	if err == nil && s.truth.learn(answer{source: fetched, place: m.place}) == wentBack {
		return errReplaced
	}
	return nil // a message that is gone proves nothing, and no answer is noticed otherwise
}

// tryToStore finds out whether NATS stores messages: it stores the marker once more.
func (s *session) tryToStore(ctx context.Context) error {
	err := s.look(ctx) // there may be no stream
	if err == nil {
		err = s.checkEpoch(ctx, 0, true)
	}
	if err != nil && !isOver(err) && ctx.Err() == nil {
		s.report(publishing, "messages are not stored: "+cause(err))
	}
	return err
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
