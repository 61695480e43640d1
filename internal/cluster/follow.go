package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go/jetstream"

	"gin-sse/internal/hub"
)

const (
	heartbeat  = time.Second      // how often an idle stream shows that it is there
	checkEvery = 5 * time.Second  // how often the stream is looked at
	settled    = 15 * time.Second // after which a stream that has less than before does not catch up any more
	forgotten  = 30 * time.Second // after which NATS drops what is left of a replica that is gone
)

// Follow brings what is in the stream, and what comes, to the hub, until ctx ends. When NATS or the
// stream goes away, it goes on as soon as that is back. It must be called once.
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
			if !errors.Is(err, context.Canceled) { // the connection was lost, and is back
				r.tell("NATS: " + problem)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryWait):
		}
	}
}

// setProblem sets why the stream is not followed, or that it is.
func (r *Replica) setProblem(problem string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if problem == "" {
		clear(r.told)
	}
	r.problem = problem
}

// follow brings messages to the hub until something goes wrong.
func (r *Replica) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	r.lost = cancel
	r.mu.Unlock()

	stream, err := r.open(ctx)
	if err != nil {
		return fmt.Errorf("open it: %w", err)
	}
	l, err := r.load(stream.CachedInfo())
	if err != nil {
		return err
	}
	// This is what the client's own ordered consumer does, but after the stream was deleted and made anew
	// that one would go on at the same number in the other stream.
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       l.next,
		AckPolicy:         jetstream.AckNonePolicy,
		InactiveThreshold: forgotten,
		MemoryStorage:     true,
		Replicas:          1,
	})
	if err != nil {
		return fmt.Errorf("create a consumer: %w", err)
	}
	if err := r.check(ctx, stream, l); err != nil {
		return err
	}
	messages, err := consumer.Messages(
		jetstream.PullMaxMessages(2000),
		jetstream.PullExpiry(5*heartbeat),
		jetstream.PullHeartbeat(heartbeat),
		jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return fmt.Errorf("ask for messages: %w", err)
	}
	defer messages.Stop()

	r.hand(l, consumer.CachedInfo().NumPending == 0)
	for {
		if err := r.bring(ctx, messages, l); err != nil {
			return err
		}
		if err := r.check(ctx, stream, l); err != nil {
			return err
		}
	}
}

// open finds the stream, or creates it.
func (r *Replica) open(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	stream, err := r.js.Stream(ctx, r.cfg.Stream)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return stream, err
	}
	stream, err = r.js.CreateStream(ctx, jetstream.StreamConfig{
		Name:     r.cfg.Stream,
		Subjects: []string{r.cfg.Stream},
		Storage:  jetstream.FileStorage,
		Replicas: r.cfg.Replicas,
		MaxMsgs:  int64(max(r.cfg.History, 1)), // 0 would be any number
	})
	switch {
	case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse): // another replica was faster
		return r.js.Stream(ctx, r.cfg.Stream)
	case err == nil && r.run != "":
		r.cfg.Log("NATS: the stream %q was deleted, and is made anew; clients are told of a gap", r.cfg.Stream)
	case err == nil:
		r.cfg.Log("NATS: the stream %q was made", r.cfg.Stream)
	}
	return stream, err
}

// load is what a replica has to get when it begins to follow a stream. The hub gets it at once, if that is
// another stream than before.
type load struct {
	run      string
	created  time.Time
	subject  string
	next     uint64 // number of the first message
	at       uint64 // number of the last that came, or the one before the first
	target   uint64 // number of the last one in the stream
	seen     uint64 // number of the last one from before the start
	anew     bool   // for the hub
	ready    bool   // all that there was at first has come
	got      uint64 // messages so far
	messages []event
}

type event struct {
	number uint64
	name   string
	data   json.RawMessage
}

// load tells from which message on to follow the stream.
func (r *Replica) load(info *jetstream.StreamInfo) (*load, error) {
	first, last := max(info.State.FirstSeq, 1), info.State.LastSeq
	l := &load{
		run:     strconv.FormatInt(info.Created.UnixMilli(), 36), // a stream that is made anew has other ids
		created: info.Created,
		subject: subject(info.Config),
		next:    r.next,
		target:  last,
	}
	switch {
	case l.run != r.run:
		l.anew = true
	case last+1 >= r.next:
		r.behind = time.Time{}
	case r.behind.IsZero(): // a new leader may know of more in a moment
		r.behind = time.Now()
		fallthrough
	case time.Since(r.behind) < settled:
		return nil, errors.New("it has fewer messages than before")
	default:
		r.cfg.Log("NATS: the stream %q has lost messages: it ends with number %d, and %d was there; clients are told of a gap", r.cfg.Stream, last, r.next-1)
		l.anew = true
	}
	if keep := uint64(r.cfg.History); l.anew {
		l.next = first
		if last > keep {
			l.next = max(first, last+1-keep)
		}
	}
	l.at = l.next - 1
	l.seen = l.at
	return l, nil
}

// subject is where to publish to a stream that an operator may have made.
func subject(stream jetstream.StreamConfig) string {
	found := stream.Name
	for _, subject := range stream.Subjects {
		if subject == stream.Name {
			return subject
		}
		if found == stream.Name && !strings.ContainsAny(subject, "*>") {
			found = subject
		}
	}
	return found
}

// check returns an error if the stream is another one by now, and forgets what was removed from it.
func (r *Replica) check(ctx context.Context, stream jetstream.Stream, l *load) error {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	info, err := stream.Info(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("look at it: %w", err)
	case !info.Created.Equal(l.created):
		return errors.New("it was deleted and made anew")
	case l.anew:
		return nil // the hub has nothing of it yet
	case info.State.LastSeq+1 < r.next:
		return errors.New("it has fewer messages than before")
	}
	first := max(info.State.FirstSeq, 1)
	limited := info.Config.MaxAge > 0 || info.Config.MaxBytes > 0 || // or it is as full as it can be
		info.Config.MaxMsgs > 0 && info.State.LastSeq+1-first >= uint64(info.Config.MaxMsgs)
	if r.events.Forget(first-1) > 0 && !limited {
		r.cfg.Log("NATS: messages were removed from the stream %q, which begins with number %d now; clients that miss them are told of a gap", r.cfg.Stream, first)
	}
	return nil
}

// bring hands messages over as they come, until it is time for a check.
func (r *Replica) bring(ctx context.Context, messages jetstream.MessagesContext, l *load) error {
	period, end := context.WithTimeout(ctx, checkEvery)
	defer end()
	for {
		message, err := messages.Next(jetstream.NextContext(period))
		if period.Err() != nil && err != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("wait for messages: %w", err)
		}
		is, err := message.Metadata()
		if err != nil {
			return fmt.Errorf("not a message of a stream: %w", err)
		}
		if l.got++; l.got != is.Sequence.Consumer {
			return errors.New("messages were lost on the way") // and will come again
		}
		l.at = is.Sequence.Stream
		if is.Timestamp.Before(r.started) {
			l.seen = l.at
		}
		l.messages = append(l.messages, r.event(message, l.at))
		r.hand(l, is.NumPending == 0)
	}
}

// hand gives the hub what came. Of another stream than before it gives nothing until that is all.
func (r *Replica) hand(l *load, all bool) {
	all = all || l.at >= l.target
	if l.anew && !all {
		return
	}
	if l.anew {
		l.anew = false
		r.run = l.run
		r.events.Follow(l.run, l.next-1, l.seen)
	}
	for _, e := range l.messages {
		_ = r.events.Append(e.number, e.name, e.data) // it is JSON, and a closed hub has no clients
	}
	l.messages = l.messages[:0]
	r.next = l.at + 1
	if all && !l.ready {
		l.ready = true
		r.mu.Lock()
		r.subject = l.subject
		r.mu.Unlock()
		r.setProblem("")
	}
}

// event returns what a message is to subscribers. Anybody may have put it into the stream.
func (r *Replica) event(message jetstream.Msg, number uint64) event {
	e := event{number: number, name: message.Headers().Get(nameHeader), data: message.Data()}
	if err := hub.CheckName(e.name); err != nil {
		r.cfg.Log("NATS: message %d of the stream %q is sent without its name: %v", number, r.cfg.Stream, err)
		e.name = ""
	}
	if !utf8.Valid(e.data) || !json.Valid(e.data) {
		e.data, _ = json.Marshal(string(message.Data())) // any string can be JSON
	}
	return e
}
