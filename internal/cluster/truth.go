package cluster

import (
	"sync"
	"time"
)

// truth is what a replica knows of the stream: the highest number that it has ever given to anybody as an id or a
// position, or learnt from NATS, and what proves which messages the stream has. Every answer of NATS goes through learn,
// which compares it with that. So an older copy of the stream is noticed, whatever part of it shows up first.
type truth struct {
	mu      sync.Mutex
	created time.Time // when the stream was made
	epoch   marker
	highest uint64
	proof   place // the last message of which it is known when it was stored, or by which key
}

// place is a number of the stream, with what proves which message has it. NATS never changes either of them.
type place struct {
	number uint64
	stored time.Time // when NATS stored the message; zero if NATS did not say so, as when it acknowledges one
	key    string    // the message's Nats-Msg-Id, or noKey; empty if nothing is known of the message
}

const noKey = "-"

// isOther reports whether two places are different messages with the same number, as far as their proofs tell.
func (p place) isOther(q place) bool {
	if p.stored.IsZero() || q.stored.IsZero() {
		return p.number == q.number && p.key != "" && q.key != "" && p.key != q.key
	}
	return p.number == q.number && !p.stored.Equal(q.stored)
}

// answer is something that NATS says of the stream.
type answer struct {
	source
	place
	created  time.Time // of an info
	known    uint64    // of an info and an acknowledgement: the highest number that was known when NATS was asked
	previous uint64    // of a live message: the number of the one before it on its subject
	before   uint64    // of a live message: nothing is missing on its subject up to this number
}

// source is where an answer comes from.
type source int

const (
	info            source = iota // the stream's leader says which number was the last one
	acknowledgement               // NATS has stored a message of this replica
	live                          // NATS sends on a message that it has stored
	fetched                       // the stream has this message
	sinceThen                     // the stream has this message, and none before it was stored after the proof
)

// verdict is what an answer means for what is known.
type verdict int

const (
	goesOn    verdict = iota // it is in line with all that is known
	hasHole                  // a message before it did not come
	wentBack                 // messages that are known are no longer in the stream, and others have their numbers, or will have
	isAnother                // the stream is another one, with the same name
)

// learn compares an answer with what is known, and adds it if it goes on.
func (t *truth) learn(a answer) verdict {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.judge(a)
	if v > hasHole {
		return v
	}
	t.highest = max(t.highest, a.number)
	if a.key != "" && (a.number > t.proof.number || a.number == t.proof.number && t.proof.stored.IsZero()) {
		t.proof = a.place
	}
	return v
}

func (t *truth) judge(a answer) verdict {
	switch {
	case a.source == info && !a.created.Equal(t.created):
		return isAnother
	case a.source == info && a.number < a.known,
		a.source == acknowledgement && a.number <= a.known,
		a.source == sinceThen && a.number < t.proof.number,
		t.proof.isOther(a.place):
		return wentBack
	case a.source == live && a.previous > a.before:
		return hasHole
	}
	return goesOn
}

// begin forgets everything but the stream, its epoch and its last number.
func (t *truth) begin(created time.Time, m marker, highest uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.created, t.epoch, t.highest, t.proof = created, m, highest, place{}
}

// now returns when the stream was made, its epoch, and the highest number.
func (t *truth) now() (created time.Time, m marker, highest uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.created, t.epoch, t.highest
}

// toProve returns the place that proves most.
func (t *truth) toProve() place {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.proof
}

// mark takes note of what a marker of the same epoch says, and reports whether more messages were removed.
func (t *truth) mark(m marker) (removed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.number > t.epoch.number {
		t.epoch.number, t.epoch.stored = m.number, m.stored
	}
	removed = m.floor > t.epoch.floor
	t.epoch.floor = max(t.epoch.floor, m.floor)
	return removed
}
