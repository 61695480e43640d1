package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gin-sse/internal/event"
)

// source is a log that hands over messages on demand.
type source struct {
	mu       sync.Mutex
	complete map[event.Pattern]bool
	followed []event.Pattern
}

func (s *source) Follow(p event.Pattern) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followed = append(s.followed, p)
	return s.complete[p]
}

func (s *source) Unfollow(p event.Pattern) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followed = slices.DeleteFunc(s.followed, func(f event.Pattern) bool { return f == p })
}

func (s *source) Complete(p event.Pattern) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.complete[p]
}

func (s *source) set(complete bool, patterns ...event.Pattern) []event.Pattern {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range patterns {
		s.complete[p] = complete
	}
	return patterns
}

func onDemand(t *testing.T, options Options) (*Hub, *source) {
	t.Helper()
	h, s := New(options), &source{complete: map[event.Pattern]bool{}}
	t.Cleanup(h.Close)
	h.OnDemand(s)
	h.Begin("e", 0, 0)
	return h, s
}

func fill(t *testing.T, h *Hub, topic string, lost uint64, numbers ...uint64) (lowest uint64) {
	t.Helper()
	var messages []event.Message
	for _, n := range numbers {
		messages = append(messages, event.Message{Number: n, Topic: topic, Data: json.RawMessage(fmt.Sprint(n))})
	}
	lowest, err := h.Fill(topic, lost, messages)
	if err != nil {
		t.Fatal(err)
	}
	return lowest
}

func TestSubscribersAreHeldUntilTheirTopicsAreComplete(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, s := onDemand(t, roomy)
		defer h.Close()
		h.See(3)
		back, all, fresh := subscribe(t, h, "e-1", "a"), subscribe(t, h, Earliest, "a"), subscribe(t, h, "", "a", "b")
		if want := []event.Pattern{"a", "b"}; !slices.Equal(s.followed, want) {
			t.Errorf("followed are %q, want %q", s.followed, want)
		}
		send(t, h, 4, "a") // comes live before the older ones are loaded
		tick(t, h, 1)
		expect(t, back, "start")
		expect(t, all, "start")
		expect(t, fresh, "from 3")
		if lowest := fill(t, h, "a", 0, 1, 2, 4); lowest != 1 {
			t.Errorf("the lowest number that was added is %d, want 1", lowest)
		}
		expect(t, back, "")
		h.Release(5, s.set(true, "a")...)
		synctest.Wait()
		expect(t, back, "from 1, 2, 4")
		expect(t, all, "from 0, 1, 2, 4")
		expect(t, fresh, "")
		h.Release(5, s.set(true, "b")...)
		synctest.Wait()
		expect(t, fresh, "4")
		send(t, h, 6, "b")
		send(t, h, 7, "a")
		h.flush()
		expect(t, back, "7")
		expect(t, fresh, "6, 7")
		expect(t, subscribe(t, h, "e-2", "a"), "from 2, 4, 7")
	})
}

func TestATopicThatIsLoadedAgainGoesOnInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, s := onDemand(t, roomy)
		defer h.Close()
		s.set(true, "a", "*")
		one, wild := subscribe(t, h, "", "a"), subscribe(t, h, "", "*")
		send(t, h, 1, "a")
		expect(t, one, "from 0, 1")
		expect(t, wild, "from 0, 1")
		h.Hold(s.set(false, "a", "*")...)
		synctest.Wait() // number 2 did not come
		send(t, h, 3, "a")
		expect(t, one, "")
		fill(t, h, "a", 0, 1, 2, 3)
		h.Release(4, s.set(true, "a", "*")...)
		synctest.Wait()
		expect(t, one, "2, 3")
		expect(t, wild, "2, 3")
		if lowest := fill(t, h, "a", 0, 1, 2, 3); lowest != 0 {
			t.Errorf("number %d was added again", lowest)
		}
		send(t, h, 5, "a")
		h.flush()
		expect(t, one, "5")
		expect(t, wild, "5")
	})
}

func TestAMessageThatComesTooLateIsAGap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, s := onDemand(t, roomy)
		defer h.Close()
		s.set(true, "a", "b")
		both := subscribe(t, h, "", "a", "b")
		send(t, h, 2, "b")
		expect(t, both, "from 0, 2")
		h.Hold(s.set(false, "a")...)
		synctest.Wait() // number 1 on a did not come
		if lowest := fill(t, h, "a", 0, 1); lowest != 1 {
			t.Errorf("the lowest number that was added is %d, want 1", lowest)
		}
		h.Miss("a", 3)
		h.Release(3, s.set(true, "a")...)
		synctest.Wait()
		expect(t, both, "gap 3")
		send(t, h, 4, "a")
		h.flush()
		expect(t, both, "4")
		expect(t, subscribe(t, h, "e-0", "b"), "from 0, 2")
	})
}

func TestWhatTheLogHasLostIsAGap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, s := onDemand(t, roomy)
		defer h.Close()
		one, wild, back := subscribe(t, h, "e-1", "a/1"), subscribe(t, h, "e-1", "a/*"), subscribe(t, h, "e-1", "b")
		fill(t, h, "a/1", 5, 6)
		fill(t, h, "b", 7)
		h.Release(8, s.set(true, "a/1", "a/*", "b")...)
		synctest.Wait()
		for _, s := range []*Subscriber{one, wild} {
			expect(t, s, "start, from 1, gap 5, 6")
		}
		expect(t, back, "start, from 1, gap 7")
		if dropped := h.LoseAll(6); dropped != 1 {
			t.Errorf("%d messages were dropped, want 1", dropped)
		}
		expect(t, one, "")
		expect(t, subscribe(t, h, "e-5", "a/1"), "from 5, gap 6")
		expect(t, subscribe(t, h, "e-5", "a/*"), "from 5, gap 6")
	})
}

func TestWhatIsForgottenIsNotLost(t *testing.T) {
	t.Parallel()
	h, s := onDemand(t, roomy)
	s.set(true, "a/1", "a/2", "b")
	for n, topic := range []string{"a/1", "a/2", "b"} {
		send(t, h, uint64(n+1), topic)
	}
	h.Forget([]event.Pattern{"a/*", "b"}, func(topic string) bool { return topic == "a/2" })
	if stats := h.Stats(); stats.Kept != 1 || stats.Topics != 1 {
		t.Errorf("%+v is kept, want one message", stats)
	}
	expect(t, subscribe(t, h, "e-0", "a/1"), "from 0")
	expect(t, subscribe(t, h, "e-0", "a/2"), "from 0, 2")
	fill(t, h, "a/1", 0, 1)
	expect(t, subscribe(t, h, "e-0", "a/1"), "from 0, 1")
}

func TestANewSubscriberWaitsForItsTopicsButNotForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, s := onDemand(t, roomy)
		defer h.Close()
		begin := time.Now()
		expect(t, subscribe(t, h, "e-2", "c"), "start")
		if took := time.Since(begin); took != 0 {
			t.Errorf("a subscriber waited %v for a log that does not answer", took)
		}
		h.Release(1)
		time.AfterFunc(loadWait/2, func() {
			fill(t, h, "a", 0, 3)
			h.Release(3, s.set(true, "a")...)
		})
		expect(t, subscribe(t, h, "e-2", "a"), "from 2, 3")
		if took := time.Since(begin); took != loadWait/2 {
			t.Errorf("a subscriber waited %v for a topic that was loaded after %v", took, loadWait/2)
		}
		begin = time.Now()
		expect(t, subscribe(t, h, "e-2", "b"), "start")
		if took := time.Since(begin); took != loadWait {
			t.Errorf("a subscriber waited %v for a topic that is never loaded, want %v", took, loadWait)
		}
	})
}

func TestAClosedHubLetsNoMessageOvertakeThoseToBeLoaded(t *testing.T) {
	t.Parallel()
	h, _ := onDemand(t, roomy)
	s := subscribe(t, h, "e-0", "a")
	expect(t, s, "start")
	send(t, h, 2, "a")
	h.Close()
	if piece, err := s.Next(t.Context()); !errors.Is(err, event.ErrClosed) {
		t.Errorf("got %q and %v, want event.ErrClosed", piece, err)
	}
}

func TestCloseWakesSubscribersThatWaitForTheirTopics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, _ := onDemand(t, roomy)
		h.Release(1)
		time.AfterFunc(loadWait/2, h.Close)
		begin := time.Now()
		s := subscribe(t, h, "e-0", "a")
		if took := time.Since(begin); took != loadWait/2 {
			t.Errorf("it waited %v, but the hub was closed after %v", took, loadWait/2)
		}
		now(t, s)
		if _, err := s.Next(t.Context()); !errors.Is(err, event.ErrClosed) {
			t.Errorf("%v, want event.ErrClosed", err)
		}
	})
}

func TestAnEndWithoutAnEventStaysAfterOlderMessagesAreLoaded(t *testing.T) {
	t.Parallel()
	h, s := onDemand(t, roomy)
	live := subscribe(t, h, "e-1", "a")
	if err := h.Append(event.Message{Number: 5, Topic: "a", End: true}); err != nil {
		t.Fatal(err)
	}
	fill(t, h, "a", 0, 1, 2)
	h.Release(6, s.set(true, "a")...)
	expect(t, live, "start, from 1, 2")
	if _, err := live.Next(t.Context()); !errors.Is(err, event.ErrEnded) {
		t.Errorf("%v, want event.ErrEnded", err)
	}
	if !h.Ended("a") {
		t.Error("the topic goes on")
	}
}
