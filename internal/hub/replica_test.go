package hub

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestBeforeTheFirstEpochThereAreTicksAlone(t *testing.T) {
	t.Parallel()
	h := New(roomy)
	t.Cleanup(h.Close)
	tick(t, h, 1)
	fresh, back, all, strange := subscribe(t, h, ""), subscribe(t, h, "e-4"), subscribe(t, h, "earliest"), subscribe(t, h, "f-4")
	ended := subscribe(t, h, "", "a")
	for _, s := range []*Subscriber{fresh, back, all, strange} {
		expect(t, s, "start, tick")
	}
	tick(t, h, 2)
	h.Begin("e", 2, 5) // 3 to 5 are older than this log, and loaded first
	send(t, h, 3, "")
	expect(t, fresh, "tick") // after its position
	expect(t, subscribe(t, h, ""), "from 5, tick")
	for n := range uint64(4) {
		send(t, h, 4+n, "")
	}
	h.flush()
	expect(t, fresh, "6, 7")
	expect(t, back, "from 4, 5, 6, 7, tick")
	expect(t, all, "from 0, gap 2, 3, 4, 5, 6, 7, tick")
	expect(t, strange, "from 2, gap 2, 3, 4, 5, 6, 7, tick")
	expect(t, ended, "start")
}

func TestAnotherEpochIsAGap(t *testing.T) {
	t.Parallel()
	h := newHub(t, roomy)
	live, slow, lagging := subscribe(t, h, ""), subscribe(t, h, "e-0"), subscribe(t, h, "", "*")
	send(t, h, 1, "")
	end(t, h, 2, "a")
	expect(t, live, "from 0, 1")
	h.Begin("f", 10, 10)
	send(t, h, 11, "")
	send(t, h, 12, "a")
	h.flush()
	expect(t, live, "gap 10, 11")
	expect(t, slow, "from 0, gap 10, 11")
	expect(t, lagging, "from 0, gap 10, 12")
	expect(t, subscribe(t, h, "e-2", "a"), "from 10, gap 10, 12")
	expect(t, subscribe(t, h, "f-10"), "from 10, 11")
	expect(t, subscribe(t, h, "f-9"), "from 9, gap 10, 11")
}

func TestAnIdOfAReplicaThatIsAheadIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := begun(Options{Limits: limits(100, 1<<20).Limits, Ahead: 100})
		defer h.Close()
		send(t, h, 1, "")
		other := subscribe(t, h, "")
		soon, never, impossible := subscribe(t, h, "e-3"), subscribe(t, h, "e-100"), subscribe(t, h, "e-102")
		expect(t, soon, "from 3")
		expect(t, never, "from 100")
		expect(t, impossible, "from 0, gap 0, 1")
		for n := range uint64(4) {
			send(t, h, n+2, "")
		}
		time.Sleep(pace)
		synctest.Wait()
		expect(t, other, "from 1, 2, 3, 4, 5")
		expect(t, soon, "4, 5")
		expect(t, never, "")
		time.Sleep(patience - pace + 1) // since it subscribed, but before the second comment
		tick(t, h, 1)
		expect(t, soon, "comment, tick")
		expect(t, never, "gap 0, 1, 2, 3, 4, 5, tick")
		send(t, h, 6, "")
		expect(t, never, "6")
	})
}

func TestLostMessagesAreAGap(t *testing.T) {
	t.Parallel()
	h := newHub(t, roomy)
	for n, topic := range []string{"a", "b", "a", "b"} {
		send(t, h, uint64(n+1), topic)
	}
	a, b, both := subscribe(t, h, "", "a"), subscribe(t, h, "", "b"), subscribe(t, h, "", "*")
	for _, s := range []*Subscriber{a, b, both} {
		expect(t, s, "from 4")
	}
	if dropped := h.LoseAll(2); dropped != 2 {
		t.Errorf("%d messages were dropped, want 2", dropped)
	}
	for _, s := range []*Subscriber{a, b, both} {
		expect(t, s, "")
	}
	expect(t, subscribe(t, h, "e-0", "a"), "from 0, gap 1, 3")
	expect(t, subscribe(t, h, "e-1", "b"), "from 1, gap 2, 4")
	expect(t, subscribe(t, h, "e-2", "b"), "from 2, 4")
	expect(t, subscribe(t, h, "e-0", "*"), "from 0, gap 2, 3, 4")
}

// The log reads them when the client leaves, while its goroutine may still go on.
func TestOthersMayReadTheTopicsOfASubscriber(t *testing.T) {
	t.Parallel()
	h := newHub(t, roomy)
	s := subscribe(t, h, "", "a")
	expect(t, s, "from 0")
	read := make(chan []string)
	go func() { read <- s.Topics.Names() }()
	h.Begin("f", 0, 0)
	_, err := s.Next(t.Context()) // sets it to another place
	if names := <-read; err != nil || !slices.Equal(names, []string{"a"}) {
		t.Errorf("%q, %v", names, err)
	}
}
