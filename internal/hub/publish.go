package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrTooLarge is why a message is not taken anywhere on its way, however often it is sent.
var ErrTooLarge = errors.New("message too large")

// A publisher that got no answer sends again with the same key. As long as that is remembered, and for
// that many keys, nothing is sent twice.
const (
	remembered = 2 * time.Minute
	maxKeys    = 100_000
)

// keys are those of the latest messages, the oldest first.
type keys struct {
	mu    sync.Mutex
	ids   map[string]string
	order []key
}

type key struct {
	key string
	at  time.Time
}

// Publish is Send, except that a key which was used in the last two minutes (if there were not 100,000
// others since) sends nothing and returns the id of then. An empty key is none.
func (h *Hub) Publish(_ context.Context, once, name string, data any) (id string, err error) {
	if once == "" {
		return h.Send(name, data)
	}
	k := &h.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for len(k.order) > 0 && (len(k.order) >= maxKeys || now.Sub(k.order[0].at) > remembered) {
		delete(k.ids, k.order[0].key)
		k.order = k.order[1:]
	}
	if id, used := k.ids[once]; used {
		return id, nil
	}
	if id, err = h.Send(name, data); err != nil {
		return "", err
	}
	if k.ids == nil {
		k.ids = map[string]string{}
	}
	k.ids[once] = id
	k.order = append(k.order, key{once, now})
	return id, nil
}

// CheckName returns an error that says what is wrong with an event's name, or nil. What EventSource and
// the hub call their own events is refused: a page would take one for the other. An empty name is none.
func CheckName(name string) error {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
	reserved := []string{"open", "error", "gap", "position"}
	if len(name) > 64 || strings.Trim(name, plain) != "" || slices.Contains(reserved, name) {
		return fmt.Errorf("%q is no name for an event: it takes 1 to 64 letters, digits, dots, underscores or hyphens, and none of %s", name, strings.Join(reserved, ", "))
	}
	return nil
}
