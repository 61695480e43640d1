// Package event says what is published, and what it looks like on the wire.
//
// A message is published to one topic. A log numbers it, and its number, after the epoch of the log, is its id: numbers
// rise over all topics together, so a client that comes back with one id can go on in any set of topics. A subscriber
// names its topics by patterns: a name stands for itself, and a name that ends in * for all topics below it.
//
// On the wire, a message, a tick, a position or a gap is a frame: a few lines of text with an empty line at the end.
// Frames are made once, shared by all subscribers, and never changed.
package event

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Message is a published event.
type Message struct {
	Number  uint64          // given by the log: 1 or more, rising over all topics, possibly with holes
	Topic   string          // empty is the default topic
	Name    string          // the event's name, or empty
	Data    json.RawMessage // JSON, which the log does not check; empty if the message only ends its topic
	End     bool            // it ends its topic
	Replace bool            // it takes the place of all earlier messages of its topic
	Key     string          // idempotency key, or empty; for the log alone
	Time    int64           // when the log kept it, in milliseconds since 1970; 0 if that is unknown
}

// IsSilent reports whether the message ends its topic without an event.
func (m Message) IsSilent() bool { return m.End && len(m.Data) == 0 }

// Erases reports whether the message leaves nothing of its topic but the end. A topic that has ended can be erased, too.
func (m Message) Erases() bool { return m.Replace && m.IsSilent() }

// ID returns the id of the message with that number.
func ID(epoch string, number uint64) string {
	id := append(make([]byte, 0, 32), epoch...)
	return string(strconv.AppendUint(append(id, '-'), number, 10))
}

// Number returns the number in an id. ok is false if the id is not of this epoch.
func Number(epoch, id string) (number uint64, ok bool) {
	digits, ours := strings.CutPrefix(id, epoch+"-")
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, ours && err == nil
}

const (
	nameBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
	maxName   = 64 // bytes
)

// CheckName returns an error that says what is wrong with an event's name, or nil. The names of events that the
// server, EventSource and SharedEventSource have themselves are refused, because a page could not tell the two
// apart. An empty name means that the event has none.
func CheckName(name string) error {
	reserved := []string{"open", "error", "statechange", "gap", "position"}
	if len(name) > maxName || strings.Trim(name, nameBytes) != "" || slices.Contains(reserved, name) {
		return fmt.Errorf("%q is no name for an event: it takes 1 to %d letters, digits, dots, underscores or hyphens, and none of %s", name, maxName, strings.Join(reserved, ", "))
	}
	return nil
}
