// Package memory is the log of a server that works alone and keeps nothing on a disk. It numbers messages and
// hands them to the hub, which keeps the latest ones.
package memory

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"time"

	"gin-sse/internal/event"
	"gin-sse/internal/hub"
	"gin-sse/internal/idempotency"
)

// Log numbers messages. Its methods may be called from any number of goroutines.
type Log struct {
	events *hub.Hub

	mu     sync.Mutex
	number uint64 // of the latest message
	keys   *idempotency.Keys
}

// New returns a log that hands its messages to the hub, in an epoch of its own: its numbers may have been given
// before, by the same server before a restart.
func New(events *hub.Hub) *Log {
	events.Begin(strings.ToLower(rand.Text()[:8]), 0, 0)
	return &Log{events: events, keys: idempotency.New()}
}

// Publish gives each message its number and hands it to the hub, in this order. It returns how many it published, and
// the id of the last one. If that is not all of them, the error says why the next one was not: event.ErrEnded if its
// topic has ended, or event.ErrClosed.
//
// A key that was used in the last two minutes sends nothing and stands for the original id, unless 100,000 other keys
// were used since. If it was used for another message, the error is event.ErrKeyReused. An empty key means no key.
func (l *Log) Publish(_ context.Context, messages ...event.Message) (kept int, id string, err error) {
	for i, m := range messages {
		next, err := l.publish(m)
		if err != nil {
			return i, id, err
		}
		id = next
	}
	return len(messages), id, nil
}

func (l *Log) publish(m event.Message) (id string, err error) {
	var digest idempotency.Digest
	if m.Key != "" {
		digest = idempotency.Sum(m)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.keys.Forget(now)
	if m.Key != "" {
		if number, err := l.keys.Find(m.Key, digest); err != nil {
			return "", err
		} else if number > 0 {
			return l.events.ID(number), nil
		}
	}
	if l.events.Ended(m.Topic) && !m.Erases() {
		return "", event.ErrEnded
	}
	m.Number, m.Time = l.number+1, now.UnixMilli()
	if err := l.events.Append(m); err != nil {
		return "", err
	}
	l.number = m.Number
	if m.Key != "" {
		l.keys.Add(idempotency.Use{Key: m.Key, Number: m.Number, Digest: digest, At: now})
		l.keys.Forget(now)
	}
	return l.events.ID(m.Number), nil
}
