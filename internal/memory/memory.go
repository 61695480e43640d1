// Package memory is the log of a server that works alone and keeps nothing on a disk. It numbers messages and
// hands them to the hub, which keeps the latest ones.
package memory

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"time"

	"gin-sse/internal/hub"
)

// A publisher that got no answer sends its message again with the same key. The log remembers what a key was used
// for during this time, and for this many keys at most.
const (
	remembered = 2 * time.Minute
	maxKeys    = 100_000
)

// Log numbers messages. Its methods may be called from any number of goroutines.
type Log struct {
	events *hub.Hub

	mu     sync.Mutex
	number uint64 // of the latest message
	uses   map[string]use
	order  []keyUse // the oldest first
}

// use is what a key was used for.
type use struct {
	message [sha256.Size]byte
	id      string
}

type keyUse struct {
	key string
	at  time.Time
}

// New returns a log that hands its messages to the hub, in an epoch of its own: its numbers may have been given
// before, by the same server before a restart.
func New(events *hub.Hub) *Log {
	events.Begin(strings.ToLower(rand.Text()[:8]), 0, 0)
	return &Log{events: events, uses: map[string]use{}}
}

// Publish gives each message its number and hands it to the hub, in this order. It returns how many it published, and
// the id of the last one. If that is not all of them, the error says why the next one was not: hub.ErrEnded if its
// topic has ended, hub.ErrClosed, or that its data is not JSON.
//
// A key that was used in the last two minutes sends nothing and stands for the original id, unless 100,000 other keys
// were used since. If it was used for another message, the error is hub.ErrKeyReused. An empty key means no key.
func (l *Log) Publish(_ context.Context, messages ...hub.Message) (kept int, id string, err error) {
	for i, m := range messages {
		next, err := l.publish(m)
		if err != nil {
			return i, id, err
		}
		id = next
	}
	return len(messages), id, nil
}

func (l *Log) publish(m hub.Message) (id string, err error) {
	key := m.Key
	var message [sha256.Size]byte
	if key != "" {
		message = digest(m)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for len(l.order) > 0 && now.Sub(l.order[0].at) > remembered {
		l.forgetOldest()
	}
	if used, ok := l.uses[key]; ok {
		if used.message != message {
			return "", hub.ErrKeyReused
		}
		return used.id, nil
	}
	if l.events.Ended(m.Topic) {
		return "", hub.ErrEnded
	}
	m.Number = l.number + 1
	if err := l.events.Append(m); err != nil {
		return "", err
	}
	l.number = m.Number
	id = l.events.ID(m.Number)
	if key != "" {
		l.uses[key] = use{message, id}
		l.order = append(l.order, keyUse{key, now})
	}
	if len(l.order) > maxKeys {
		l.forgetOldest()
	}
	return id, nil
}

func (l *Log) forgetOldest() {
	delete(l.uses, l.order[0].key)
	l.order[0], l.order = keyUse{}, l.order[1:]
}

// digest returns a hash that differs from message to message.
func digest(m hub.Message) [sha256.Size]byte {
	d := sha256.New()
	fmt.Fprintf(d, "%q %q %t ", m.Topic, m.Name, m.End)
	d.Write(m.Data)
	return [sha256.Size]byte(d.Sum(nil))
}
