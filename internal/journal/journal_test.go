package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
	"gin-sse/internal/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a hub with its journal, which can be started again.
type server struct {
	t      testing.TB
	dir    string
	limits hub.Options
	events *hub.Hub
	strike atomic.Int32 // how the disk fails
	*Journal
}

const (
	fails        = iota + 1 // nothing is written
	failsTooLate            // all is written, and reported as failed
	forgets                 // the same, and then the system forgets the last page, which is not on the disk
)

var errStrike = errors.New("the disk is on strike")

func start(t testing.TB, dir string, limits hub.Options) *server {
	t.Helper()
	s := &server{t: t, dir: dir, limits: limits}
	s.open()
	t.Cleanup(s.close)
	return s
}

func (s *server) open() {
	s.t.Helper()
	s.events = hub.New(s.limits)
	var err error
	if s.Journal, err = Open(s.dir, maxEvent, s.events, s.t.Logf); err != nil {
		s.events.Close()
		s.t.Fatal(err)
	}
	update := s.update
	s.update = func(do func(*bolt.Tx) error) error {
		strike := s.strike.Load()
		if strike == fails {
			return errStrike
		}
		if strike == forgets {
			defer s.forget()()
		}
		if err := update(do); err != nil || strike == 0 {
			return err
		}
		return errStrike
	}
}

// forget returns a function that undoes the last step of a commit: it writes one of the first two pages.
func (s *server) forget() func() {
	f, err := os.OpenFile(file(s.dir), os.O_RDWR, 0)
	if err != nil {
		s.t.Error(err)
		return func() {}
	}
	pages := make([]byte, 2*s.pageSize)
	if _, err := f.ReadAt(pages, 0); err != nil {
		s.t.Error(err)
	}
	return func() {
		_, err := f.WriteAt(pages, 0)
		if err := errors.Join(err, f.Close()); err != nil {
			s.t.Error(err)
		}
	}
}

func (s *server) close() {
	if s.Journal != nil {
		s.events.Close()
		s.Journal.Close()
		s.Journal = nil
	}
}

func (s *server) restart() {
	s.t.Helper()
	s.close()
	s.open()
}

func (s *server) publish(m event.Message) (id string) {
	s.t.Helper()
	kept, id, err := s.Publish(s.t.Context(), m)
	if err != nil || kept != 1 {
		s.t.Fatalf("%d kept, %v", kept, err)
	}
	return id
}

// read returns the data of what a subscriber of these topics gets until all is there, with the names of events that
// are no messages.
func (s *server) read(after string, names ...string) (data []string) {
	s.t.Helper()
	topics, err := event.ParseTopics(names)
	if err != nil {
		s.t.Fatal(err)
	}
	events := s.events
	subscriber, err := events.Subscribe(context.Background(), topics, after)
	if errors.Is(err, event.ErrEnded) {
		return []string{"ended"}
	} else if err != nil {
		s.t.Fatal(err)
	}
	defer subscriber.Close()
	// A message that marks the end, on a tick's way: it cannot be told apart by id, so it is read until there is no more.
	var text strings.Builder
	ctx := s.t.Context()
	done := make(chan struct{})
	close(done)
	_ = ctx
	for {
		piece, err := subscriber.Next(ended{ctx, done})
		text.Write(piece)
		if errors.Is(err, event.ErrEnded) {
			defer func() { data = append(data, "end") }()
		}
		if err != nil {
			break
		}
	}
	for block := range strings.SplitSeq(text.String(), "\n\n") {
		if strings.Contains(block, "event:position") {
			continue
		}
		line := ""
		for part := range strings.SplitSeq(block, "\n") {
			if strings.HasPrefix(part, "event:gap") {
				line = "gap " + line
			}
			if value, ok := strings.CutPrefix(part, "data:"); ok {
				line += value
			}
		}
		if line != "" {
			data = append(data, line)
		}
	}
	return data
}

const maxEvent = 1000

func message(topic, data string) event.Message {
	return event.Message{Topic: topic, Data: json.RawMessage(data)}
}

var plenty = hub.Options{Limits: history.Limits{PerTopic: 100, Bytes: 1 << 20, Window: 1}}

func TestARestartForgetsNothing(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), plenty)
	before := s.publish(message("a", "1"))
	s.publish(event.Message{Topic: "a", Name: "n", Data: json.RawMessage("2"), Key: "key"})
	s.publish(message("b", "3"))
	keyed := s.publish(event.Message{Topic: "b", Data: json.RawMessage("4"), Key: "key 2"})
	s.publish(event.Message{Topic: "c", Data: json.RawMessage("5"), End: true})
	s.publish(event.Message{Topic: "b", End: true})
	for range 3 {
		s.restart()
		if got, want := fmt.Sprint(s.read(before, "a", "b")), "[2 3 4]"; got != want {
			t.Errorf("after the first id there is %s, want %s", got, want)
		}
		if got, want := fmt.Sprint(s.read("earliest", "*")), "[1 2 3 4 5]"; got != want {
			t.Errorf("there is %s, want %s", got, want)
		}
		if got, want := fmt.Sprint(s.read(keyed, "b")), "[ended]"; got != want {
			t.Errorf("a client that has seen the end gets %s, want %s", got, want)
		}
		if id := s.publish(event.Message{Topic: "b", Data: json.RawMessage("4"), Key: "key 2"}); id != keyed {
			t.Errorf("the key brings %q, want %q", id, keyed)
		}
		if _, _, err := s.Publish(t.Context(), event.Message{Topic: "b", Data: json.RawMessage("0"), Key: "key 2"}); !errors.Is(err, event.ErrKeyReused) {
			t.Errorf("the key with another message: %v", err)
		}
		for _, topic := range []string{"b", "c"} {
			if _, _, err := s.Publish(t.Context(), message(topic, "0")); !errors.Is(err, event.ErrEnded) {
				t.Errorf("topic %q has ended, and publishing brings %v", topic, err)
			}
		}
	}
	epoch, _, _ := strings.Cut(before, "-")
	id := s.publish(message("a", "7"))
	if number, ok := event.Number(epoch, id); !ok || number < 6+minHole || number > 6+3*minHole {
		t.Errorf("after three restarts the next id is %q, and the first one was %q", id, before)
	}
}

// ended is a context that is canceled, so that Next returns what there is and does not wait.
type ended struct {
	context.Context
	done chan struct{}
}

func (e ended) Done() <-chan struct{} { return e.done }
func (e ended) Err() error            { return context.Canceled }
