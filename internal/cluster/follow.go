package cluster

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go/jetstream"

	"gin-sse/internal/hub"
)

const (
	heartbeat  = time.Second      // how often an idle stream shows that it is alive
	checkEvery = 5 * time.Second  // how often the stream is looked at
	settled    = 15 * time.Second // how long a stream that ends before the last message that came may take to catch up
	forgotten  = 30 * time.Second // after which NATS deletes the consumer of a replica that is gone
)

var (
	errFewer    = errors.New("it has fewer messages than before")
	errReplaced = errors.New("it has other messages than before")
	errNewEpoch = errors.New("it lost messages, as another replica found")
)

// Follow hands the messages of the stream to the hub, those that it has and those to come, until ctx ends. When
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

// follow hands messages to the hub until something goes wrong.
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
	if err := r.place(ctx, stream); err != nil {
		return err
	}
	target := stream.CachedInfo().State.LastSeq
	for {
		err := r.read(ctx, stream, target)
		if !errors.Is(err, errHole) {
			return err
		}
		if err := r.account(ctx, stream); err != nil {
			return err
		}
	}
}

// read hands messages to the hub until something goes wrong. Once the message with the number target has come,
// the replica has all that was in the stream at the start.
func (r *Replica) read(ctx context.Context, stream jetstream.Stream, target uint64) error {
	// The client library's ordered consumer does the same. But if the stream is deleted and made anew, that
	// consumer goes on at the same number in the new stream.
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       r.at + 1,
		AckPolicy:         jetstream.AckNonePolicy,
		InactiveThreshold: forgotten,
		MemoryStorage:     true,
		Replicas:          1,
	})
	if err != nil {
		return fmt.Errorf("create a consumer: %w", err)
	}
	if err := r.check(ctx, stream); err != nil {
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

	if r.at >= target || consumer.CachedInfo().NumPending == 0 {
		r.setProblem("")
	}
	var got uint64
	for {
		if err := r.bring(ctx, messages, &got, target); err != nil {
			return err
		}
		if err := r.check(ctx, stream); err != nil {
			return err
		}
	}
}

// place decides where to go on in the stream: after the last message that came or, in another epoch, at
// the beginning.
func (r *Replica) place(ctx context.Context, stream jetstream.Stream) error {
	info := stream.CachedInfo()
	epoch, err := r.epochNow(ctx, info.Created)
	if err != nil {
		return err
	}
	if !info.Created.Equal(r.created) {
		return r.begin(ctx, stream, epoch)
	}
	if epoch.epoch != r.epoch.epoch && epoch.number > 0 {
		r.cfg.Log("NATS: the stream %q lost messages, as another replica found; clients are told of a gap", r.cfg.Stream)
		return r.begin(ctx, stream, epoch)
	}
	lost, err := r.hasLost(ctx, info.State.LastSeq)
	switch {
	case err != nil:
		return err
	case lost != "":
		epoch, err = r.setEpoch(ctx, base36(time.Now()), epoch.number, info.Created)
		if err != nil {
			return err
		}
		r.cfg.Log("NATS: the stream %q has lost messages: %s; clients are told of a gap", r.cfg.Stream, lost)
		return r.begin(ctx, stream, epoch)
	case epoch.epoch != r.epoch.epoch: // the message that named it was removed
		epoch, err = r.setEpoch(ctx, r.epoch.epoch, 0, info.Created)
		if err != nil {
			return err
		}
		if epoch.epoch != r.epoch.epoch {
			return errNewEpoch
		}
	}
	r.epoch = epoch
	return r.look(ctx, stream, math.MaxUint64)
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
	if r.stamp.IsZero() {
		return false, false, nil
	}
	m, err := r.get(ctx, request{Seq: r.at})
	if errors.Is(err, errGone) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	return m.Time.Equal(r.stamp), true, nil
}

// begin tells the hub of a new epoch, in which the stream is loaded from its beginning.
func (r *Replica) begin(ctx context.Context, stream jetstream.Stream, epoch marker) error {
	info := stream.CachedInfo()
	seen := info.State.LastSeq
	if r.created.IsZero() {
		first, err := r.get(ctx, request{StartTime: &r.started, NextFor: ">"})
		if err != nil && !errors.Is(err, errGone) {
			return fmt.Errorf("find where the stream was at the start: %w", err)
		}
		if err == nil && !first.Time.Before(r.started) {
			seen = first.Sequence - 1
		}
	}
	at := max(info.State.FirstSeq, 1) - 1
	var a ahead
	if at > 0 && !limited(info.Config) {
		var err error
		if a, err = r.lookAhead(ctx, stream, 0); err != nil {
			return err
		}
		if len(a.lost) > 0 { // the hub is told of these topics; no others have lost messages
			at = 0
		}
	}
	r.created, r.epoch, r.at, r.stamp, r.behind, r.ahead = info.Created, epoch, at, time.Time{}, time.Time{}, a.numbers
	r.looked, r.oldest = info.State, ""
	r.events.Begin(epoch.epoch, at, seen)
	r.tellLost(a)
	return nil
}

// check returns an error if the stream is another one by now. It makes the hub forget what was removed from it.
func (r *Replica) check(ctx context.Context, stream jetstream.Stream) error {
	if err := r.look(ctx, stream, r.at); err != nil { // messages above r.at are on their way
		return fmt.Errorf("look at it: %w", err)
	}
	same, known, err := r.same(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("look at it: %w", err)
	case known && !same:
		return errReplaced
	}
	return nil
}

// look finds out from what is in the stream whether somebody removed messages from its beginning, and
// makes the hub forget those up to number.
func (r *Replica) look(ctx context.Context, stream jetstream.Stream, number uint64) error {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(cmp.Or(r.oldest, r.cfg.Stream)))
	if err != nil {
		return err
	}
	now := info.State
	switch {
	case !info.Created.Equal(r.created):
		return errors.New("it was deleted and made anew")
	case now.LastSeq < r.at:
		return errFewer
	case now.LastSeq < r.looked.LastSeq:
		return nil // the answer of a new leader, which may know of more in a moment
	}
	first := max(now.FirstSeq, 1)
	gone := min(first-1, number)
	// A full topic drops its oldest message for a newer one, which is no removal.
	room := info.Config.MaxMsgsPerSubject > 0 && int64(now.Subjects[r.oldest]) >= info.Config.MaxMsgsPerSubject
	removed := now.Msgs < r.looked.Msgs || now.LastSeq <= r.at && first > now.LastSeq && now.LastSeq > 0 ||
		first > r.looked.FirstSeq && r.oldest != "" && !room
	switch {
	case limited(info.Config):
		r.events.LostAll(gone)
	case removed:
		if r.events.LostAll(gone) > 0 || gone > r.at {
			r.cfg.Log("NATS: messages were removed from the stream %q, which begins with number %d now; clients that miss them are told of a gap", r.cfg.Stream, first)
		}
	default:
		gone = 0
	}
	if gone > r.at {
		r.at, r.stamp, r.ahead = gone, time.Time{}, nil
	}
	if first > r.looked.FirstSeq || r.oldest == "" {
		r.oldest = ""
		m, err := r.get(ctx, request{Seq: first})
		if err != nil && !errors.Is(err, errGone) {
			return err
		}
		if err == nil {
			r.oldest = m.Subject
		}
	}
	r.looked = now
	return nil
}

// bring hands messages to the hub as they come, until it is time for a check.
func (r *Replica) bring(ctx context.Context, messages jetstream.MessagesContext, got *uint64, target uint64) error {
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
		if *got++; *got != is.Sequence.Consumer {
			return errors.New("messages were lost on the way") // they will come again
		}
		number := is.Sequence.Stream
		if !r.next(number) {
			return errHole
		}
		if err := r.hand(message, number, is.Timestamp); err != nil {
			return err
		}
		r.at, r.stamp = number, is.Timestamp
		if number >= target || is.NumPending == 0 {
			r.mu.Lock()
			caughtUp := r.problem == ""
			r.mu.Unlock()
			if !caughtUp {
				r.setProblem("")
			}
		}
	}
}

// hand gives a message to the hub. Any program may have put it into the stream.
func (r *Replica) hand(message jetstream.Msg, number uint64, stored time.Time) error {
	switch subject := message.Subject(); subject {
	case r.cfg.Stream + "." + endedToken:
		return nil
	case r.epochSubject():
		if number <= r.epoch.number {
			return nil
		}
		if epochIn(message.Data(), stored) != r.epoch.epoch {
			return errNewEpoch
		}
		r.epoch.number = number
		return nil
	}
	topic, is := topicOf(r.cfg.Stream, message.Subject())
	if !is {
		r.tell(fmt.Sprintf("NATS: messages in the stream %q whose subjects are no topics are skipped", r.cfg.Stream))
		return nil
	}
	m := hub.Message{Number: number, Topic: topic, Name: message.Headers().Get(nameHeader), Data: message.Data(), End: message.Headers().Get(endHeader) == "true"}
	if err := hub.CheckName(m.Name); err != nil {
		r.cfg.Log("NATS: message %d of the stream %q is sent without its name: %v", number, r.cfg.Stream, err)
		m.Name = ""
	}
	if (len(m.Data) > 0 || !m.End) && (!utf8.Valid(m.Data) || !json.Valid(m.Data)) {
		m.Data = quote(m.Data)
	}
	_ = r.events.Append(m) // the data is JSON, and a closed hub has no clients
	return nil
}

// quote returns any text as a JSON string.
func quote(text []byte) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(string(text)) // a buffer takes everything
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
