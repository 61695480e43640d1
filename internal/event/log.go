package event

import (
	"context"
	"errors"
)

// Log gives messages their numbers and keeps them. It hands them to a hub, one at a time and with rising numbers. Its
// methods may be called from any number of goroutines.
type Log interface {
	// Publish stores the messages in this order. It returns how many it stored, and the id of the last one. If that is
	// not all of them, the error says why the next one was not stored: ErrEnded if its topic has ended, ErrKeyReused,
	// ErrTooLarge, ErrClosed, or something else that may be over when the publisher tries again. Messages that were not
	// acknowledged because of an error of the last kind, or because ctx ended, may be stored all the same.
	//
	// A message whose idempotency key was used in the last two minutes is not stored again, and counts as stored with
	// the id of then. An empty key means no key.
	Publish(ctx context.Context, messages ...Message) (stored int, id string, err error)
}

var (
	// ErrClosed says that the hub or the log is closed.
	ErrClosed = errors.New("the server is stopping")

	// ErrEnded says that a topic has ended, or that all topics of a set have.
	ErrEnded = errors.New("topic ended")

	// ErrTooLarge says that a log cannot keep a message of this size, however often it is sent.
	ErrTooLarge = errors.New("message too large")

	// ErrKeyReused says that an idempotency key belongs to another message.
	ErrKeyReused = errors.New("key used for another message")
)
