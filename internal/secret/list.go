package secret

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
)

// Secret is one of a List.
type Secret struct {
	Value    []byte
	Accepted context.Context // ends when the secret is removed from its list
	sum      [sha256.Size]byte
	remove   context.CancelFunc
}

// List is secrets that are accepted beside each other, so that one can be changed while others still use the one before. The
// first one is the one to sign with. A list may be empty. Its methods may be called from any number of goroutines, but those
// of Files.
type List struct {
	*Files  // nil if the list never changes
	secrets atomic.Pointer[[]Secret]
}

// Of returns a list that never changes. Empty values are left out.
func Of(values ...string) *List {
	l := new(List)
	var lines [][]byte
	for _, value := range values {
		lines = append(lines, []byte(value))
	}
	l.set(lines)
	return l
}

// OpenList returns the list of the secrets in a file, one on each line, each of which check accepts. The error does not
// repeat them.
func OpenList(setting, path string, check func([]byte) error) (l *List, err error) {
	l = new(List)
	l.Files, err = Open(setting, func(contents [][]byte) error {
		lines := bytes.Split(contents[0], []byte("\n"))
		for i, line := range lines {
			if err := check(line); err != nil && len(line) > 0 {
				return fmt.Errorf("line %d: %w", i+1, err)
			}
		}
		if len(bytes.TrimSpace(contents[0])) == 0 {
			return errors.New("the file has no secret: put one on each line")
		}
		l.set(lines)
		return nil
	}, path)
	if err != nil {
		return nil, fmt.Errorf("%s=%q cannot be used: %w", setting, path, err)
	}
	return l, nil
}

// set replaces the secrets, leaving out empty ones. Those that stay are not interrupted.
func (l *List) set(values [][]byte) {
	before, after := l.All(), make([]Secret, 0, len(values))
	holds := func(list []Secret, value []byte) int {
		return slices.IndexFunc(list, func(s Secret) bool { return bytes.Equal(s.Value, value) })
	}
	for _, value := range values {
		if i := holds(before, value); i >= 0 {
			after = append(after, before[i])
		} else if len(value) > 0 {
			s := Secret{Value: value, sum: sha256.Sum256(value)}
			s.Accepted, s.remove = context.WithCancel(context.Background())
			after = append(after, s)
		}
	}
	l.secrets.Store(&after)
	for _, s := range before {
		if holds(after, s.Value) < 0 {
			s.remove()
		}
	}
}

// All returns the secrets, which must not be changed. Without a list there are none.
func (l *List) All() []Secret {
	if l == nil || l.secrets.Load() == nil {
		return nil
	}
	return *l.secrets.Load() // which is never nil again
}

// Has reports whether text is one of the secrets. The time that it takes does not tell how much of one is right.
func (l *List) Has(text string) bool {
	sum, found := sha256.Sum256([]byte(text)), 0
	for _, s := range l.All() {
		found |= subtle.ConstantTimeCompare(sum[:], s.sum[:])
	}
	return found == 1
}
