package journal

import (
	"fmt"
	"math"

	bolt "go.etcd.io/bbolt"
)

// write makes the file hold everything up to the batch.
func (j *Journal) write(tx *bolt.Tx, b batch, more int) error {
	r, err := open(tx)
	if err != nil {
		return fmt.Errorf("the file in DATA_DIR is damaged: %w", err)
	}
	// A commit that failed may be in the file all the same. It was not acknowledged, and its numbers are given again.
	for _, bucket := range [][]byte{messagesBucket, keysBucket} {
		if err := r.deleteRange(bucket, j.last+1, math.MaxUint64); err != nil {
			return err
		}
	}
	probe := tx.Bucket(mainBucket).Delete
	if more > 0 {
		probe = func(key []byte) error { return tx.Bucket(mainBucket).Put(key, make([]byte, more)) }
	}
	if err := probe(probeKey); err != nil {
		return err
	}
	if err := r.note(j); err != nil {
		return err
	}
	for _, m := range b.messages {
		if err := r.add(messagesBucket, encodeNumber(m.Number), encodeMessage(m)); err != nil {
			return err
		}
	}
	for _, use := range b.uses {
		if err := r.add(keysBucket, encodeNumber(use.Number), encodeUse(use)); err != nil {
			return err
		}
	}
	r.state.last = b.last
	return r.save()
}

// note brings the file up to date with what the hub and the keys have forgotten since the last transaction.
func (r *records) note(j *Journal) error {
	for _, number := range j.changes.Dropped {
		if err := r.delete(messagesBucket, encodeNumber(number)); err != nil {
			return err
		}
	}
	for _, t := range j.changes.Topics {
		key := historyKey(t.Topic)
		if err := r.delete(historiesBucket, key); err != nil {
			return err
		}
		if t.Lost > 0 || t.Ended > 0 {
			if err := r.add(historiesBucket, key, encodeHistory(t)); err != nil {
				return err
			}
		}
	}
	r.state.noted, r.state.floor = j.changes.Last, j.changes.Forgotten
	if oldest := j.keys.Oldest(); oldest > 0 {
		return r.deleteRange(keysBucket, 0, oldest-1)
	}
	return r.deleteRange(keysBucket, 0, math.MaxUint64)
}
