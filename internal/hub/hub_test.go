package hub

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type data map[string]any

func tick(t *testing.T, h *Hub, value any) {
	t.Helper()
	if err := h.Tick(data{"message": value}); err != nil {
		t.Fatal(err)
	}
}

// subscribe returns a new subscriber that was told its position.
func subscribe(t *testing.T, h *Hub) *Subscriber {
	t.Helper()
	s := h.Subscribe("")
	if got, want := string(s.missed[0]), "id:"+h.id(h.sent)+"\nevent:position\ndata:{}\n\n"; got != want {
		t.Errorf("the stream begins with %q, want %q", got, want)
	}
	s.missed = s.missed[1:]
	return s
}

// read returns what the subscriber gets until the hub closes.
func read(t *testing.T, s *Subscriber) string {
	t.Helper()
	var all strings.Builder
	for {
		frames, err := s.Next(t.Context())
		if err != nil {
			if !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
			return all.String()
		}
		all.Write(frames)
	}
}

func TestTickIsTheTutorialsFrame(t *testing.T) {
	t.Parallel()
	h := New(100)
	s := subscribe(t, h)
	tick(t, h, "Server Time: 2:03:25 PM")
	h.Close()
	if got, want := read(t, s), "data:{\"message\":\"Server Time: 2:03:25 PM\"}\n\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNewSubscriberGetsTheLatestTickAtOnceAndOnce(t *testing.T) {
	t.Parallel()
	h := New(100)
	early := subscribe(t, h)
	tick(t, h, 1)
	tick(t, h, 2)
	late := subscribe(t, h)
	tick(t, h, 3)
	h.Close()
	afterwards := subscribe(t, h)
	frame := func(n int) string { return fmt.Sprintf("data:{\"message\":%d}\n\n", n) }
	for name, test := range map[string]struct {
		s    *Subscriber
		want string
	}{
		"early":      {early, frame(1) + frame(2) + frame(3)},
		"late":       {late, frame(2) + frame(3)},
		"afterwards": {afterwards, frame(3)},
	} {
		if got := read(t, test.s); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestUnencodableTickIsAnErrorAndSendsNothing(t *testing.T) {
	t.Parallel()
	h := New(100)
	s := subscribe(t, h)
	if err := h.Tick(data{"message": func() {}}); err == nil {
		t.Error("no error for a function as data")
	}
	h.Close()
	if got := read(t, s) + read(t, subscribe(t, h)); got != "" {
		t.Errorf("subscribers got %q, want nothing", got)
	}
}

func TestSubscriberFarBehindCatchesUpInLargePieces(t *testing.T) {
	t.Parallel()
	h := New(100)
	s := subscribe(t, h)
	const ticks = 10_000
	var want strings.Builder
	for n := range ticks {
		tick(t, h, n)
		fmt.Fprintf(&want, "data:{\"message\":%d}\n\n", n)
	}
	h.Close()
	var got strings.Builder
	pieces := 0
	for ; ; pieces++ {
		frames, err := s.Next(t.Context())
		if err != nil {
			break
		}
		if len(frames) > batch {
			t.Errorf("a piece of %d bytes, want at most %d", len(frames), batch)
		}
		got.Write(frames)
	}
	if got.String() != want.String() {
		t.Errorf("got %d bytes, not the %d in order that were sent", got.Len(), want.Len())
	}
	if limit := want.Len()/batch + 2; pieces > limit {
		t.Errorf("%d bytes came in %d pieces, want at most %d", want.Len(), pieces, limit)
	}
}

func TestFrameLargerThanAPieceIsHandedOverWhole(t *testing.T) {
	t.Parallel()
	h := New(100)
	s := subscribe(t, h)
	tick(t, h, 1)
	tick(t, h, strings.Repeat("x", 2*batch))
	tick(t, h, 2)
	h.Close()
	for i, want := range []int{len("data:{\"message\":1}\n\n"), 2*batch + len("data:{\"message\":\"\"}\n\n"), len("data:{\"message\":2}\n\n")} {
		frames, err := s.Next(t.Context())
		if err != nil || len(frames) != want {
			t.Errorf("piece %d has %d bytes and error %v, want %d bytes", i, len(frames), err, want)
		}
	}
}

func TestManySendingAtOnceReachEverySubscriberInOneOrder(t *testing.T) {
	t.Parallel()
	const senders, each, subscribers = 16, 128, 16
	h := New(100)
	got := make([]string, subscribers)
	var reading, sending sync.WaitGroup
	for i := range got {
		s := subscribe(t, h)
		reading.Go(func() { got[i] = read(t, s) })
	}
	for sender := range senders {
		sending.Go(func() {
			for n := range each {
				tick(t, h, []int{sender, n})
			}
		})
	}
	sending.Wait()
	h.Close()
	reading.Wait()

	next := make([]int, senders)
	for event := range strings.SplitSeq(strings.TrimSuffix(got[0], "\n\n"), "\n\n") {
		var sender, n int
		if _, err := fmt.Sscanf(event, `data:{"message":[%d,%d]}`, &sender, &n); err != nil || n != next[sender] {
			t.Fatalf("unexpected event %q, want number %d of sender %d: %v", event, next[sender], sender, err)
		}
		next[sender]++
	}
	for sender, n := range next {
		if n != each {
			t.Errorf("%d events of sender %d, want %d", n, sender, each)
		}
	}
	for i, events := range got {
		if events != got[0] {
			t.Errorf("subscriber %d saw another order than subscriber 0", i)
		}
	}
}

func TestCloseEndsEveryWaitingSubscriber(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := New(100)
		tick(t, h, 1)
		var waiting sync.WaitGroup
		for range 1000 {
			s := subscribe(t, h)
			waiting.Go(func() { read(t, s) })
		}
		synctest.Wait() // all of them stand at the end of the chain
		h.Close()
		h.Close()
		waiting.Wait()
		if err := h.Tick(data{}); !errors.Is(err, ErrClosed) {
			t.Errorf("a tick to a closed hub: %v, want ErrClosed", err)
		}
		if _, err := h.Send("", data{}); !errors.Is(err, ErrClosed) {
			t.Errorf("a message to a closed hub: %v, want ErrClosed", err)
		}
		s := subscribe(t, h)
		if frames, err := s.Next(t.Context()); err != nil || string(frames) != "data:{\"message\":1}\n\n" {
			t.Errorf("a late subscriber got %q and %v, want the tick", frames, err)
		}
	})
}

func TestNextEndsWithItsContextAndCanBeCalledAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := New(100)
		defer h.Close()
		s := subscribe(t, h)
		gone := errors.New("client gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(gone) })
		if _, err := s.Next(ctx); !errors.Is(err, gone) {
			t.Errorf("error %v, want %v", err, gone)
		}
		tick(t, h, 1)
		if frames, err := s.Next(t.Context()); err != nil || len(frames) == 0 {
			t.Errorf("then %q and error %v, want the tick", frames, err)
		}
	})
}

func TestSilenceIsBrokenByACommentAfter15Seconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := New(100)
		defer h.Close()
		s := subscribe(t, h)
		start := time.Now()
		for i, want := range []struct {
			frames string
			after  time.Duration
		}{
			{":\n\n", 15 * time.Second},
			{":\n\n", 30 * time.Second},
			{"data:{\"message\":1}\n\n", 40 * time.Second},
			{":\n\n", 55 * time.Second},
		} {
			if i == 2 {
				time.AfterFunc(10*time.Second, func() { tick(t, h, 1) })
			}
			frames, err := s.Next(t.Context())
			if err != nil || string(frames) != want.frames || time.Since(start) != want.after {
				t.Errorf("%q and error %v after %v, want %q after %v", frames, err, time.Since(start), want.frames, want.after)
			}
		}
	})
}

// With nobody standing on them, frames must not be kept: a hub runs for months.
func TestHubKeepsNoOldFrames(t *testing.T) {
	t.Parallel()
	h := New(100)
	defer h.Close()
	s := subscribe(t, h)
	collected := make(chan struct{})
	func() {
		tick(t, h, 1)
		if _, err := s.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		cleanupFrame(s.at, func() { close(collected) })
	}()
	tick(t, h, 2)
	if _, err := s.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitCollection(t, collected)
}

func cleanupFrame(f *frame, done func()) {
	runtime.AddCleanup(f, func(struct{}) { done() }, struct{}{})
}

func awaitCollection(t *testing.T, collected <-chan struct{}) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		runtime.GC()
		select {
		case <-collected:
			return
		case <-timeout:
			t.Fatal("the frame is still held")
		default:
		}
	}
}

func TestStatsCountWhatSubscribersGot(t *testing.T) {
	t.Parallel()
	h := New(2)
	one, two := subscribe(t, h), subscribe(t, h)
	tick(t, h, 1)
	send(t, h, 2)
	send(t, h, 3)
	send(t, h, 4)
	h.comment()
	if got, want := h.Stats(), (Stats{Subscribers: 2, Kept: 2}); got != want {
		t.Errorf("before anybody read: %+v, want %+v", got, want)
	}
	h.Close()
	read(t, one)
	one.Close()
	if got, want := h.Stats(), (Stats{Subscribers: 1, Delivered: 4, Kept: 2}); got != want {
		t.Errorf("after one has read: %+v, want %+v", got, want)
	}
	read(t, two)
	two.Close()
	if got, want := h.Stats(), (Stats{Delivered: 8, Kept: 2}); got != want {
		t.Errorf("after both have read: %+v, want %+v", got, want)
	}
}
