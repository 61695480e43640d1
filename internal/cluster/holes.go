package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A number that does not come is a message that the stream dropped before this replica got it. It does
// not say of which topic it was. A stream drops the oldest message of a topic that has as many as it may
// have, so only those topics are suspects; and of these, one that still has a message from before the hole
// lost nothing in it. If there are no suspects, somebody removed messages, of any topic.

// holes is what is known while some numbers are missing.
type holes struct {
	from  uint64            // all up to this number came, or is known to be lost
	end   uint64            // the last missing number
	came  map[string]uint64 // by subject: the last message since, after which it was decided what is lost
	found bool              // which topic lost messages, at least one
	begun time.Time
	spent time.Duration // on asking NATS

	last  uint64          // number in the stream when NATS was asked
	limit int64           // of messages for each subject
	full  map[string]bool // subjects that have so many
}

// grace is how long a replica may ask NATS about holes before that slows it down.
const grace = 100 * time.Millisecond

// mayAsk limits asking to half of the time. Otherwise a replica that is behind would fall back further.
func (h *holes) mayAsk() bool { return h.spent < grace || h.spent < time.Since(h.begun)/2 }

// suspect asks which topics may have lost messages.
func (h *holes) suspect(ctx context.Context, stream jetstream.Stream) error {
	ctx, cancel := context.WithTimeout(ctx, 5*answerWait) // there may be very many
	defer cancel()
	begin := time.Now()
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		return fmt.Errorf("look at its subjects: %w", err)
	}
	h.spent += time.Since(begin)
	h.last, h.limit, h.full = info.State.LastSeq, info.Config.MaxMsgsPerSubject, map[string]bool{}
	for subject, messages := range info.State.Subjects {
		if h.limit > 0 && int64(messages) >= h.limit {
			h.full[subject] = true
		}
	}
	return nil
}

// account tells the hub what was lost before the message with that number, which comes next.
func (r *Replica) account(ctx context.Context, stream jetstream.Stream, subject string, number uint64) error {
	if number > r.at+1 {
		if r.holes == nil {
			r.holes = &holes{from: r.at, came: map[string]uint64{}, begun: time.Now()}
		}
		h := r.holes
		h.end = number - 1
		if number > h.last || h.mayAsk() {
			if err := h.suspect(ctx, stream); err != nil {
				return err
			}
		}
		if len(h.full) == 0 {
			r.removed(h.end)
			h.found = true
		}
	}
	h := r.holes
	if h == nil {
		return nil
	}
	came, before := h.came[subject]
	complete := max(h.from, came)
	if h.full[subject] && h.end > complete {
		lost, err := r.lostSince(ctx, h, subject, complete, before)
		if err != nil {
			return err
		}
		if topic, is := topicOf(r.cfg.Stream, subject); lost && is {
			r.events.Lost(topic, number-1)
		}
		h.found = h.found || lost
	}
	h.came[subject] = number
	if number >= h.last { // every suspect has had its newest message, and was looked at before
		if !h.found {
			r.removed(h.end)
		}
		r.holes = nil
	}
	return nil
}

// lostSince tells whether a topic that is full lost messages after the one with the number complete.
func (r *Replica) lostSince(ctx context.Context, h *holes, subject string, complete uint64, before bool) (bool, error) {
	switch {
	case complete == 0, h.limit == 1:
		return true, nil
	case !h.mayAsk():
		return !before, nil
	}
	begin := time.Now()
	oldest, err := r.get(ctx, request{Seq: 1, NextFor: subject})
	h.spent += time.Since(begin)
	if errors.Is(err, errGone) {
		return true, nil
	}
	return err == nil && oldest.Sequence > complete, err
}

// removed tells the hub and the log that messages up to that number are gone, of any topic.
func (r *Replica) removed(number uint64) {
	r.events.LostAll(number)
	r.cfg.Log("NATS: messages up to number %d were removed from the stream %q; clients that miss them are told of a gap", number, r.cfg.Stream)
}
