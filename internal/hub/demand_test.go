package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// onDemand returns a hub that gets the messages of followed topics alone, and has begun.
func onDemand(t *testing.T, limits Limits) *Hub {
	t.Helper()
	h := New(limits)
	t.Cleanup(h.Close)
	h.OnDemand()
	h.Begin("e", 0, 0)
	return h
}

// later subscribes without waiting until the topics are loaded.
func later(t *testing.T, h *Hub, after string, names ...string) *Subscriber {
	t.Helper()
	s := briefly(t, h, after, names...)
	t.Cleanup(s.Close)
	return s
}

// briefly is later, but the caller must close the subscriber.
func briefly(t *testing.T, h *Hub, after string, names ...string) *Subscriber {
	t.Helper()
	h.mu.Lock()
	h.demand.answered = false
	h.mu.Unlock()
	s, err := h.Subscribe(t.Context(), topics(t, names...), after)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantedNow checks which keys the hub wants.
func wantedNow(t *testing.T, h *Hub, want ...string) []*Need {
	t.Helper()
	needs := h.Wanted()
	var keys []string
	for _, n := range needs {
		keys = append(keys, n.Key)
	}
	slices.Sort(keys)
	if !slices.Equal(keys, want) {
		t.Errorf("the hub wants %q, not %q", keys, want)
	}
	return needs
}

func kept(topic string, numbers ...uint64) Kept {
	k := Kept{Key: topic}
	for _, n := range numbers {
		k.Messages = append(k.Messages, Message{Number: n, Topic: topic, Data: json.RawMessage(fmt.Sprint(n))})
	}
	return k
}

func load(t *testing.T, h *Hub, all ...Kept) {
	t.Helper()
	if err := h.Load(all); err != nil {
		t.Fatal(err)
	}
}

func TestTopicIsWantedOnceItIsFollowedAndSentOnceItIsLoaded(t *testing.T) {
	t.Parallel()
	h := onDemand(t, roomy)
	send(t, h, 1, "a")
	if n := h.Stats().Kept; n > 0 {
		t.Errorf("%d messages are kept that nobody follows", n)
	}
	h.See(3)
	back, all, fresh := later(t, h, "e-1", "a"), later(t, h, "earliest", "a"), later(t, h, "", "a", "b")
	needs := wantedNow(t, h, "a", "b")
	wantedNow(t, h)
	send(t, h, 4, "a") // comes live before the older ones are loaded
	tick(t, h, 1)
	for _, s := range []*Subscriber{back, all} {
		expect(t, s, "start")
	}
	expect(t, fresh, "from 3")
	load(t, h, kept("a", 1, 2), kept("a", 4))
	expect(t, back, "")
	h.Loaded(5, needs...)
	expect(t, back, "from 1, 2, 4")
	expect(t, all, "from 0, 1, 2, 4")
	expect(t, fresh, "4")
	send(t, h, 6, "b")
	send(t, h, 7, "a")
	h.flushWaiting()
	expect(t, back, "7")
	expect(t, fresh, "6, 7")
	expect(t, subscribe(t, h, "e-2", "a"), "from 2, 4, 7")
}

func TestNewSubscriberWaitsForItsTopicsButNotForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := New(roomy)
		defer h.Close()
		wanted := h.OnDemand()
		h.Begin("e", 0, 0)
		h.Loaded(0) // keys are loaded soon from now on
		go func() {
			<-wanted
			time.Sleep(loadWait / 2)
			needs := h.Wanted()
			_ = h.Load([]Kept{kept("a", 3)})
			h.Loaded(3, needs...)
		}()
		began := time.Now()
		expect(t, subscribe(t, h, "e-2", "a"), "from 2, 3")
		if took := time.Since(began); took != loadWait/2 {
			t.Errorf("a subscriber waited %v for a topic that was loaded after %v", took, loadWait/2)
		}
		began = time.Now()
		expect(t, subscribe(t, h, "e-2", "b"), "start")
		if took := time.Since(began); took != loadWait {
			t.Errorf("a subscriber waited %v for a topic that is never loaded, want %v", took, loadWait)
		}
	})
}

func TestMessagesOfATopicThatNobodyFollowsAreForgottenAfterAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := New(roomy)
		defer h.Close()
		h.OnDemand()
		h.Begin("e", 0, 0)
		a, below := briefly(t, h, "", "a"), briefly(t, h, "", "u/1/*")
		h.Loaded(0, h.Wanted()...)
		send(t, h, 1, "a")
		send(t, h, 2, "u/1/x")
		send(t, h, 3, "u/1/y")
		defer briefly(t, h, "", "u/1/x").Close()
		h.Loaded(3, h.Wanted()...)
		a.Close()
		below.Close()
		time.Sleep(time.Minute)
		if keys := h.Forget(time.Minute + 1); len(keys) > 0 || h.Stats().Kept != 3 {
			t.Errorf("%q are forgotten early, and %d messages are left of 3", keys, h.Stats().Kept)
		}
		again := subscribe(t, h, "e-0", "a")
		expect(t, again, "from 0, 1")
		wantedNow(t, h)
		time.Sleep(time.Minute)
		if keys := h.Forget(time.Minute); !slices.Equal(keys, []string{"u/1/"}) || h.Stats().Kept != 2 {
			t.Errorf("%q are forgotten, and %d messages are left, want u/1/ and 2", keys, h.Stats().Kept)
		}
	})
}

func TestWhatIsForgottenTakesNoMemory(t *testing.T) { // not parallel, because it measures memory
	h := New(Limits{History: 100, HistoryBytes: 1 << 30})
	defer h.Close()
	h.OnDemand()
	h.Begin("e", 0, 0)
	const many = 500
	data := json.RawMessage(`"` + strings.Repeat("x", 10_000) + `"`)
	number := uint64(0)
	round := func() {
		for i := range many {
			name := fmt.Sprint("private/", i)
			s := briefly(t, h, "", name)
			h.Loaded(number, h.Wanted()...)
			number++
			if err := h.Append(Message{Number: number, Topic: name, Data: data}); err != nil {
				t.Fatal(err)
			}
			s.Close()
		}
		if keys := h.Forget(0); len(keys) != many || h.Stats().Kept != 0 || len(h.histories.topics) > 0 || len(h.demand.needs) > 0 {
			t.Errorf("%d keys of %d are forgotten; %d messages, %d histories and %d needs are left", len(keys), many, h.Stats().Kept, len(h.histories.topics), len(h.demand.needs))
		}
	}
	round() // maps keep their size
	before := heap()
	for range 3 {
		round()
	}
	if grown := heap() - before; grown > 1<<20 {
		t.Errorf("%d KB are left of 15 MB that nobody follows any longer", grown>>10)
	}
}

func TestTopicThatIsLoadedAgainGoesOnInOrder(t *testing.T) {
	t.Parallel()
	h := onDemand(t, roomy)
	s, other := later(t, h, "", "a", "b"), later(t, h, "", "b")
	h.Loaded(0, h.Wanted()...)
	send(t, h, 1, "a")
	expect(t, s, "from 0, 1")
	expect(t, other, "from 0")
	h.Unload("a") // 2 did not come
	send(t, h, 3, "a")
	send(t, h, 4, "b")
	h.flushWaiting()
	tick(t, h, 1)
	expect(t, s, "")
	expect(t, other, "4")
	needs := wantedNow(t, h, "a")
	if !needs[0].Known {
		t.Error("the hub does not say that it knows the older messages")
	}
	load(t, h, kept("a", 2, 3))
	h.Loaded(5, needs...)
	expect(t, s, "2, 3, 4")
	send(t, h, 6, "a")
	h.flushWaiting()
	expect(t, s, "6")
}

func TestMessageThatComesTooLateIsAGap(t *testing.T) {
	t.Parallel()
	h := onDemand(t, roomy)
	s := later(t, h, "", "a", "b")
	h.Loaded(0, h.Wanted()...)
	send(t, h, 2, "a")
	expect(t, s, "from 0, 2")
	send(t, h, 1, "b") // NATS's leader had changed
	h.flushWaiting()
	expect(t, s, "gap 2 null")
	h.Unload("b")
	load(t, h, kept("b", 1)) // came already
	h.Loaded(2, h.Wanted()...)
	expect(t, s, "")
	send(t, h, 4, "a")
	h.flushWaiting()
	expect(t, s, "4")
	h.Unload("b")
	load(t, h, kept("b", 3))
	h.Loaded(4, h.Wanted()...)
	expect(t, s, "gap 4 null")
}

func TestKeyWhoseMessagesMayBeMissingIsWantedOnlyIfItIsFollowed(t *testing.T) {
	t.Parallel()
	for _, everything := range []bool{false, true} {
		h := onDemand(t, roomy)
		later(t, h, "", "a")
		gone := briefly(t, h, "", "b")
		h.Loaded(0, h.Wanted()...)
		send(t, h, 1, "a")
		send(t, h, 2, "b")
		gone.Close()
		if everything {
			h.UnloadAll()
			wantedNow(t, h, "a")
		} else {
			h.Unload("a")
			h.Unload("b")
			wantedNow(t, h, "a")
		}
		if keys := h.Forget(time.Hour); !slices.Equal(keys, []string{"b"}) {
			t.Errorf("%q are dropped, want b", keys)
		}
		if n := h.Stats().Kept; n != 1 {
			t.Errorf("%d messages are kept, want the one of a", n)
		}
	}
}

func TestWildcardKnowsWhatItsTopicsLostBeforeItWasFollowed(t *testing.T) {
	t.Parallel()
	h := onDemand(t, Limits{History: 1, HistoryBytes: 1 << 20})
	later(t, h, "", "a/x")
	h.Loaded(0, h.Wanted()...)
	send(t, h, 1, "a/x")
	send(t, h, 2, "a/x")
	s := later(t, h, "e-0", "a/*")
	load(t, h, kept("a/x", 1, 2))
	h.Loaded(2, h.Wanted()...)
	expect(t, s, "start, from 0, gap 1 null, 2")
}

func TestLoadedAgainIsNotLostAgain(t *testing.T) {
	t.Parallel()
	h := onDemand(t, Limits{History: 0, HistoryBytes: 1 << 20})
	s := later(t, h, "", "a/*")
	h.Loaded(0, h.Wanted()...)
	expect(t, s, "from 0")
	send(t, h, 1, "a/x")
	expect(t, s, "1")
	later(t, h, "", "*")
	load(t, h, kept("a/x", 1))
	h.Loaded(1, h.Wanted()...)
	h.UnloadAll()
	h.Loaded(2, h.Wanted()...)
	expect(t, s, "")
}

func TestLossesThatALogTellsOfAreGapsOfTopicsThatAreLoadedLater(t *testing.T) {
	t.Parallel()
	h := onDemand(t, roomy)
	h.Loaded(9)
	h.LostAll(5)
	before, behind, wildcard := later(t, h, "e-3", "a"), later(t, h, "e-6", "b"), later(t, h, "e-3", "c/*")
	load(t, h, kept("a", 8), kept("b", 9))
	h.Loaded(9, h.Wanted()...)
	expect(t, before, "start, from 3, gap 5 null, 8")
	expect(t, behind, "start, from 6, 9")
	expect(t, wildcard, "start, from 3, gap 5 null")
}

func TestTopicsThatComeAndGoTakeABoundedAmountOfMemory(t *testing.T) {
	t.Parallel()
	h := onDemand(t, roomy)
	for i := range 1000 { // while the log is away
		briefly(t, h, "", fmt.Sprint("a/", i), fmt.Sprint("b/", i, "/*")).Close()
	}
	if d := h.demand; len(d.needs)+len(d.wanted)+len(d.dropped) > 0 {
		t.Errorf("%d needs, %d wanted and %d dropped keys are left of clients that are gone", len(d.needs), len(d.wanted), len(d.dropped))
	}
	for i := range maxIdle + 100 {
		s := briefly(t, h, "", fmt.Sprint("a/", i))
		h.Loaded(0, h.Wanted()...)
		s.Close()
	}
	if n := len(h.demand.needs); n != maxIdle {
		t.Errorf("%d topics are kept that nobody follows, want %d", n, maxIdle)
	}
	if keys := h.Forget(time.Hour); len(keys) != 100 {
		t.Errorf("%d keys are dropped, want 100", len(keys))
	}
	if keys := h.Forget(0); len(keys) != maxIdle || h.demand.idle != 0 {
		t.Errorf("%d keys are dropped, want %d; %d are idle", len(keys), maxIdle, h.demand.idle)
	}
}

func TestMessageThatIsLoadedBehindASubscriberThatReadTheHistoryIsAGap(t *testing.T) {
	t.Parallel()
	h := onDemand(t, roomy)
	later(t, h, "", "a")
	later(t, h, "", "b")
	h.Loaded(3, h.Wanted()...)
	send(t, h, 5, "a")
	send(t, h, 11, "b") // 10 is lost on the way
	back := subscribe(t, h, "e-5", "a")
	expect(t, back, "from 5")
	h.Unload("a")
	load(t, h, kept("a", 10, 12))
	h.Loaded(13, h.Wanted()...)
	expect(t, back, "gap 11 null, 12")
}

func TestClosedHubLetsNoMessageOvertakeThoseToBeLoaded(t *testing.T) {
	t.Parallel()
	h := onDemand(t, roomy)
	back := later(t, h, "e-5", "a")
	h.Wanted()
	send(t, h, 110, "a")
	h.Close()
	expect(t, back, "start")
	if _, err := back.Next(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("the stream ends with %v, want %v", err, ErrClosed)
	}
}

func TestCloseWakesSubscribersThatWaitForTheirTopics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := New(roomy)
		wanted := h.OnDemand()
		h.Begin("e", 0, 0)
		h.Loaded(0)
		go func() {
			<-wanted
			h.Close()
		}()
		began := time.Now()
		subscribe(t, h, "", "a")
		if took := time.Since(began); took > 0 {
			t.Errorf("a subscriber waited %v for a hub that is closed", took)
		}
	})
}

func TestEndWithoutAnEventStaysAfterOlderMessagesAreLoaded(t *testing.T) {
	t.Parallel()
	h := onDemand(t, roomy)
	s := later(t, h, "e-0", "a")
	h.Loaded(3, h.Wanted()...)
	send(t, h, 100, "a")
	h.Unload("a")
	if err := h.Append(Message{Number: 110, Topic: "a", End: true}); err != nil {
		t.Fatal(err)
	}
	load(t, h, kept("a", 101, 105))
	h.Loaded(106, h.Wanted()...)
	if !h.Ended("a") {
		t.Error("the topic goes on")
	}
	expect(t, s, "start, from 0, 100, 101, 105")
	if _, err := s.Next(t.Context()); !errors.Is(err, ErrEnded) {
		t.Errorf("the stream ends with %v, want %v", err, ErrEnded)
	}
}

func TestRemovedMessagesAreAGapThoughNothingIsLeft(t *testing.T) {
	t.Parallel()
	h := onDemand(t, roomy)
	h.See(100)
	h.LostAll(60)
	s := later(t, h, "e-30", "b")
	h.Loaded(101, h.Wanted()...)
	expect(t, s, "start, from 30, gap 60 null")
	send(t, h, 110, "b")
	expect(t, s, "110")
}

func TestKeyThatIsFollowedAgainBeforeItIsForgottenIsForgottenLater(t *testing.T) {
	t.Parallel()
	h := onDemand(t, roomy)
	s := briefly(t, h, "", "a")
	h.Wanted()
	s.Close()
	s = briefly(t, h, "", "a")
	if keys := h.Forget(0); len(keys) > 0 {
		t.Errorf("%q are forgotten, though somebody follows", keys)
	}
	s.Close()
	if keys := h.Forget(0); !slices.Equal(keys, []string{"a"}) {
		t.Errorf("%q are forgotten, want a", keys)
	}
}
