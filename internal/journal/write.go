package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	bolt "go.etcd.io/bbolt"

	"gin-sse/internal/event"
)

// batch is what one transaction stores.
type batch struct {
	messages []event.Message
	last     uint64          // number of the last message, of this batch or before it
	bytes    int             // of the messages
	ended    map[string]bool // topics, by these messages
	note     bool            // it also notes what has changed since the last note
	probe    int             // it also stores so many bytes that mean nothing, which the next note removes
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
		if err := r.leave(j); err != nil {
			return err
		}
	}
	for _, m := range b.messages {
		r.state.messages = appendMessage(r.state.messages, m, &r.buffer)
		if err := r.flush(listBytes); err != nil {
			return err
		}
	}
	r.state.last = b.last
	return r.save()
}

// note brings the file up to date with what the hub and the keys know. A commit that failed may be in the file all the
// same, so what is to be added may be there already, and what is to be removed may not.
func (r *records) note(j *Journal, probe int) error {
	if j.changes == nil {
		changes := j.events.Changes()
		j.changes = &changes
	}
	gone := slices.Concat(j.changes.Dropped, j.gone)
	slices.Sort(gone)
	if err := errors.Join(r.flush(0), r.remove(gone)); err != nil {
		return err
	}
	for _, t := range j.changes.Topics {
		if err := r.set(historyKey(t.Topic), encodeHistory(t)); err != nil {
			return err
		}
	}
	if err := r.noteKeys(j); err != nil {
		return err
	}
	r.state.noted, r.state.floor = j.changes.Last, j.changes.Forgotten
	if probe > 0 {
		return r.main.Put(probeKey, make([]byte, probe))
	}
	return r.main.Delete(probeKey)
}

// noteKeys adds records of the keys used since the last note, and deletes those whose keys are all forgotten.
func (r *records) noteKeys(j *Journal) error {
	var list []byte
	uses := j.keys.After(r.state.noted)
	uses = uses[:len(uses)-len(j.keys.After(j.changes.Last))]
	for i, use := range uses {
		list = appendEntry(list, use.Number, encodeUse(*use))
		if len(list) < listBytes && i+1 < len(uses) {
			continue
		}
		if err := r.set(numbered(keyKind, use.Number), list); err != nil {
			return err
		}
		list = nil
	}
	oldest := j.keys.Oldest()
	if oldest == 0 {
		oldest = math.MaxUint64
	}
	c := r.all.Cursor()
	for {
		key, _ := c.Seek(numbered(keyKind, 0))
		if key == nil || bytes.Compare(key, numbered(keyKind, oldest)) >= 0 {
			return nil
		}
		if err := r.set(key, nil); err != nil {
			return err
		}
	}
}

// leave notes a hole, and forgets the oldest of too many.
func (r *records) leave(j *Journal) error {
	if err := r.set(numbered(pastKind, j.hole.Last), encodeNumber(j.hole.First)); err != nil || len(j.holes) <= maxHoles {
		return err
	}
	return r.set(numbered(pastKind, j.holes[0].Last), nil)
}

// records changes the records of one transaction, and the state with them.
type records struct {
	main, all *bolt.Bucket
	state     state
	buffer    []byte
}

// open reads the state that a transaction begins with. After a commit that failed on its last step, that may be the
// state of that commit.
func open(tx *bolt.Tx) (*records, error) {
	r := &records{main: tx.Bucket(mainBucket), all: tx.Bucket(recordsBucket)}
	if r.main == nil {
		return nil, errors.New("it has no data of gin-sse")
	}
	return r, r.state.decode(r.main.Get(stateKey))
}

// flush makes a record of the latest messages if they have more bytes than that.
func (r *records) flush(bytes int) error {
	if len(r.state.messages) <= bytes {
		return nil
	}
	first, _ := binary.Uvarint(r.state.messages)
	err := r.set(numbered(messageKind, first), r.state.messages)
	r.state.messages = make([]byte, 0, 2*listBytes)
	return err
}

// set adds, changes or, without a value, deletes a record.
func (r *records) set(key, value []byte) error {
	if before := r.all.Get(key); before != nil {
		r.state.count--
		r.state.sum -= hash(key, before)
	}
	if len(value) == 0 {
		return r.all.Delete(key)
	}
	r.state.count++
	r.state.sum += hash(key, value)
	r.all.FillPercent = 1 // numbers rise
	return r.all.Put(key, value)
}

// remove removes messages from their records. The numbers rise.
func (r *records) remove(numbers []uint64) error {
	c := r.all.Cursor()
	for len(numbers) > 0 {
		step := c.Prev
		if key, _ := c.Seek(numbered(messageKind, numbers[0]+1)); key == nil {
			step = c.Last
		}
		key, list := step() // the last record that may have the first of the numbers
		last := numbers[0]  // of those that are done then
		if key != nil && key[0] == messageKind {
			var kept []byte
			err := entries(list, func(number uint64, _, entry []byte) error {
				if _, goes := slices.BinarySearch(numbers, number); !goes {
					kept = append(kept, entry...)
				}
				last = max(last, number)
				return nil
			})
			if err := errors.Join(err, r.set(key, kept)); err != nil {
				return err
			}
		}
		i, _ := slices.BinarySearch(numbers, last+1)
		numbers = numbers[i:]
	}
	return nil
}

func (r *records) save() error { return r.main.Put(stateKey, r.state.encode()) }
