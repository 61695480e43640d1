package journal

import (
	"fmt"
	"math"

	bolt "go.etcd.io/bbolt"

	"gin-sse/internal/event"
)

// batch is what one transaction stores.
type batch struct {
	messages []event.Message
	last     uint64 // number of the last message, of this batch or before it
	bytes    int    // of the messages
	note     bool   // it also notes what has changed since the last note, and removes what a failed commit has left
	probe    int    // it also stores so many bytes that mean nothing, which the next note removes
}

// write makes the file hold everything up to the batch.
//
// Only some of the transactions note what the history has dropped, what it knows of its topics, and which keys were used.
// The messages after the last note have their keys with them, and a start adds them to the history one by one, which then
// drops what it had dropped before.
func (j *Journal) write(tx *bolt.Tx, b batch) error {
	r, err := open(tx)
	if err != nil {
		return fmt.Errorf("the file in DATA_DIR is damaged: %w", err)
	}
	if b.note {
		if err := r.note(j, b.probe); err != nil {
			return err
		}
	}
	if len(b.messages) > 0 && j.hole.Last > 0 {
		if err := r.leave(j.hole); err != nil {
			return err
		}
	}
	for _, m := range b.messages {
		if err := r.add(messagesBucket, encodeNumber(m.Number), encodeMessage(m)); err != nil {
			return err
		}
	}
	r.state.last = b.last
	return r.save()
}

// note brings the file up to date with what the hub and the keys know. A commit that failed may be in the file all the
// same, so what is to be added may be there already. Its messages were not acknowledged, and their numbers are given again.
func (r *records) note(j *Journal, probe int) error {
	if j.changes == nil {
		changes := j.events.Changes()
		changes.Dropped = append(changes.Dropped, j.silent...)
		j.changes, j.silent = &changes, nil
	}
	if err := r.deleteRange(messagesBucket, j.last+1, math.MaxUint64); err != nil {
		return err
	}
	for _, number := range j.changes.Dropped {
		if err := r.delete(messagesBucket, encodeNumber(number)); err != nil {
			return err
		}
	}
	for _, t := range j.changes.Topics {
		change := func() error { return r.delete(historiesBucket, historyKey(t.Topic)) }
		if t.Lost > 0 || t.Ended > 0 {
			change = func() error { return r.set(historiesBucket, historyKey(t.Topic), encodeHistory(t)) }
		}
		if err := change(); err != nil {
			return err
		}
	}
	for _, use := range j.keys.After(r.state.noted) {
		if use.Number > j.changes.Last {
			break
		}
		if err := r.set(keysBucket, encodeNumber(use.Number), encodeUse(use)); err != nil {
			return err
		}
	}
	r.state.noted, r.state.floor = j.changes.Last, j.changes.Forgotten
	forgotten := uint64(math.MaxUint64)
	if oldest := j.keys.Oldest(); oldest > 0 {
		forgotten = oldest - 1
	}
	if err := r.deleteRange(keysBucket, 0, forgotten); err != nil {
		return err
	}
	if probe > 0 {
		return r.tx.Bucket(mainBucket).Put(probeKey, make([]byte, probe))
	}
	return r.tx.Bucket(mainBucket).Delete(probeKey)
}
