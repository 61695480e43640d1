package hub

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestSilenceIsBrokenAfter15Seconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := begun(roomy)
		defer h.Close()
		time.Sleep(time.Minute)
		a := subscribe(t, h, "", "a")
		time.Sleep(7 * time.Second)
		b := subscribe(t, h, "", "b")
		start := time.Now()
		time.AfterFunc(18*time.Second, func() { send(t, h, 1, "a") })
		var got []string
		var mu sync.Mutex
		var reading sync.WaitGroup
		for name, s := range map[string]*Subscriber{"a": a, "b": b} {
			now(t, s)
			reading.Go(func() {
				for range 3 {
					piece, _ := s.Next(t.Context())
					mu.Lock()
					got = append(got, fmt.Sprint(name, " ", brief(t, string(piece)), " ", time.Since(start)))
					mu.Unlock()
				}
			})
		}
		reading.Wait()
		want := "a comment 8s, b comment 15s, a 1 18s, b comment 30s, a comment 33s, b comment 45s"
		if strings.Join(got, ", ") != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestMessagesInQuickSuccessionGoOutTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := begun(roomy)
		defer h.Close()
		subscribers := map[string]*Subscriber{}
		pieces := map[string]int{}
		for _, name := range []string{"a", "b", "c"} {
			subscribers[name] = subscribe(t, h, "", name)
			now(t, subscribers[name])
		}
		sent := map[string]time.Time{}
		var reading sync.WaitGroup
		var mu sync.Mutex
		for name, s := range subscribers {
			reading.Go(func() {
				for seen := 0; seen < 100; {
					piece, err := s.Next(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					pieces[name]++
					for _, id := range strings.Split(brief(t, string(piece)), ", ") {
						if late := time.Since(sent[id]); late > pace {
							t.Errorf("number %s came after %v, want at most %v", id, late, pace)
						} else if seen == 0 && late != 0 {
							t.Errorf("the first one came after %v", late)
						}
						seen++
					}
					mu.Unlock()
				}
			})
		}
		for n := range 300 { // one every 10 ms for each, out of step
			mu.Lock()
			sent[fmt.Sprint(n+1)] = time.Now()
			mu.Unlock()
			send(t, h, uint64(n+1), []string{"a", "b", "c"}[n%3])
			time.Sleep(10 * time.Millisecond / 3)
		}
		reading.Wait()
		for name, n := range pieces {
			if n > 35 {
				t.Errorf("%s: 100 messages came in %d pieces", name, n)
			}
		}
		s := subscribe(t, h, "")
		now(t, s)
		send(t, h, 301, "")
		send(t, h, 302, "")
		expect(t, s, "301")
		tick(t, h, "does not wait, and takes the message along")
		expect(t, s, "302, tick")
	})
}

func TestArrivingSendsNothingToOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := begun(Options{}) // what is pending must not be needed from a history
		defer h.Close()
		s := subscribe(t, h, "")
		send(t, h, 1, "")
		expect(t, s, "from 0, 1")
		send(t, h, 2, "")
		fresh, back := subscribe(t, h, ""), subscribe(t, h, "e-1")
		expect(t, fresh, "from 2")
		expect(t, back, "from 1, 2") // it wrote something anyway
		send(t, h, 3, "")
		later := subscribe(t, h, "e-2")
		expect(t, later, "from 2, 3")
		expect(t, s, "")
		time.Sleep(pace)
		synctest.Wait()
		expect(t, s, "2, 3")
		expect(t, fresh, "3")
		expect(t, back, "3")
		expect(t, later, "")
	})
}
