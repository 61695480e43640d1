// Package idempotency remembers what idempotency keys were used for. A publisher that got no answer sends its message
// again with the same key, and the message must not be published twice.
package idempotency

import (
	"crypto/sha256"
	"sort"
	"strconv"
	"time"

	"gin-sse/internal/event"
)

// A key is remembered for this time, and only this many keys are.
const (
	Remembered = 2 * time.Minute
	MaxKeys    = 100_000
)

// Digest is a hash that differs from message to message.
type Digest [sha256.Size]byte

// Sum returns the digest of a message, without its number and its key.
func Sum(m event.Message) Digest {
	b := make([]byte, 0, 64+len(m.Topic)+len(m.Name)+len(m.Data))
	b = append(strconv.AppendQuote(b, m.Topic), ' ')
	b = append(strconv.AppendQuote(b, m.Name), ' ')
	b = append(strconv.AppendBool(b, m.End), ' ')
	if m.Replace {
		b = append(b, "replace "...)
	}
	return sha256.Sum256(append(b, m.Data...))
}

// Use is what a key was used for.
type Use struct {
	Key    string
	Number uint64 // of the message that was sent with it
	Digest Digest // of that message
	At     time.Time
}

// Keys remembers keys. Its methods must be called one after the other.
type Keys struct {
	uses  map[string]*Use
	order []*Use // the oldest first, with rising numbers
}

// New returns keys that remember nothing yet.
func New() *Keys { return &Keys{uses: map[string]*Use{}} }

// Find returns the number of the message that was sent with the key before, or 0. If the key was used for another
// message, the error is event.ErrKeyReused.
func (k *Keys) Find(key string, digest Digest) (number uint64, err error) {
	use := k.uses[key]
	switch {
	case use == nil:
		return 0, nil
	case use.Digest != digest:
		return 0, event.ErrKeyReused
	}
	return use.Number, nil
}

// Add remembers a use of a key that Find does not know. Its number must be higher than those of earlier uses.
func (k *Keys) Add(use Use) {
	k.uses[use.Key] = &use
	k.order = append(k.order, &use)
}

// Undo forgets the uses with numbers above last.
func (k *Keys) Undo(last uint64) {
	for n := len(k.order); n > 0 && k.order[n-1].Number > last; n-- {
		delete(k.uses, k.order[n-1].Key)
		k.order[n-1] = nil
		k.order = k.order[:n-1]
	}
}

// Forget forgets what is older than two minutes, and the oldest of more than 100,000 keys.
func (k *Keys) Forget(now time.Time) {
	for len(k.order) > 0 && (now.Sub(k.order[0].At) > Remembered || len(k.order) > MaxKeys) {
		if first := k.order[0]; k.uses[first.Key] == first { // it may have been used again, and read from a disk
			delete(k.uses, first.Key)
		}
		k.order[0], k.order = nil, k.order[1:]
	}
}

// After returns the uses with numbers above that one, in their order.
func (k *Keys) After(number uint64) []*Use {
	i := sort.Search(len(k.order), func(i int) bool { return k.order[i].Number > number })
	return k.order[i:]
}

// Oldest returns the lowest number of all uses, or 0 if there is none.
func (k *Keys) Oldest() uint64 {
	if len(k.order) == 0 {
		return 0
	}
	return k.order[0].Number
}

// Len returns how many keys are remembered.
func (k *Keys) Len() int { return len(k.order) }
