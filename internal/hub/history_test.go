package hub

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

func send(t *testing.T, h *Hub, value any) (id string) {
	t.Helper()
	id, err := h.Send("", value)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// events splits what a subscriber got into one string an event, without data fields' name.
func events(frames string) []string {
	var all []string
	for event := range strings.SplitSeq(strings.TrimSuffix(frames, "\n\n"), "\n\n") {
		all = append(all, event)
	}
	return all
}

func TestMessageHasItsIdItsNameAndItsData(t *testing.T) {
	t.Parallel()
	h := New(10)
	s := subscribe(t, h)
	id, err := h.Send("deploy.done", data{"message": "a\nb\r\x00</script>"})
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	want := "id:" + id + "\nevent:deploy.done\n" + `data:{"message":"a\nb\r\u0000\u003c/script\u003e"}` + "\n\n"
	if got := read(t, s); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAnyJSONValueIsAMessage(t *testing.T) {
	t.Parallel()
	for value, want := range map[any]string{nil: "null", true: "true", 1.5: "1.5", "two\nlines": `"two\nlines"`, "": `""`} {
		h := New(10)
		s := subscribe(t, h)
		id := send(t, h, value)
		h.Close()
		if got, want := read(t, s), "id:"+id+"\ndata:"+want+"\n\n"; got != want {
			t.Errorf("%v: got %q, want %q", value, got, want)
		}
	}
}

func TestWhoComesBackGetsWhatItMissed(t *testing.T) {
	t.Parallel()
	other := New(5)
	foreign := send(t, other, 0)
	for _, test := range []struct {
		name  string
		after func(ids []string) string
		want  []string // events, before anything new
	}{
		{"new", func([]string) string { return "" }, []string{"position 8"}},
		{"up to date", func(ids []string) string { return ids[8] }, []string{"position 8"}},
		{"one missed", func(ids []string) string { return ids[7] }, []string{"position 7", "8"}},
		{"all kept missed", func(ids []string) string { return ids[3] }, []string{"position 3", "4", "5", "6", "7", "8"}},
		{"one gone", func(ids []string) string { return ids[2] }, []string{"gap 3 1", "4", "5", "6", "7", "8"}},
		{"three gone", func(ids []string) string { return ids[0] }, []string{"gap 3 3", "4", "5", "6", "7", "8"}},
		{"another hub's, as after a restart", func([]string) string { return foreign }, []string{"gap 3 null", "4", "5", "6", "7", "8"}},
		{"from the future", func(ids []string) string { return strings.TrimSuffix(ids[8], "8") + "9" }, []string{"gap 3 null", "4", "5", "6", "7", "8"}},
		{"overflow", func(ids []string) string { return ids[8] + strings.Repeat("0", 30) }, []string{"gap 3 null", "4", "5", "6", "7", "8"}},
		{"negative", func(ids []string) string { return strings.Replace(ids[8], "-", "--", 1) }, []string{"gap 3 null", "4", "5", "6", "7", "8"}},
		{"garbage", func([]string) string { return "\x00\r\n☃" }, []string{"gap 3 null", "4", "5", "6", "7", "8"}},
		{"10 KiB", func([]string) string { return strings.Repeat("9", 10<<10) }, []string{"gap 3 null", "4", "5", "6", "7", "8"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := New(5)
			ids := []string{h.id(0)}
			for n := range 8 {
				ids = append(ids, send(t, h, n+1))
			}
			s := h.Subscribe(test.after(ids))
			ids = append(ids, send(t, h, 9))
			h.Close()

			var want []string
			for _, event := range append(test.want, "9") {
				var n int
				var missed string
				switch {
				case scan(event, "position %d", &n):
					want = append(want, "id:"+ids[n]+"\nevent:position\ndata:{}")
				case scan(event, "gap %d %s", &n, &missed):
					want = append(want, "id:"+ids[n]+"\nevent:gap\ndata:{\"missed\":"+missed+"}")
				case scan(event, "%d", &n):
					want = append(want, fmt.Sprintf("id:%s\ndata:%d", ids[n], n))
				}
			}
			if got := events(read(t, s)); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func scan(s, format string, into ...any) bool {
	n, err := fmt.Sscanf(s, format, into...)
	return err == nil && n == len(into)
}

func TestWithoutAHistoryAGapTellsHowManyAreMissing(t *testing.T) {
	t.Parallel()
	h := New(0)
	first := send(t, h, 1)
	second := send(t, h, 2)
	s := h.Subscribe(first)
	h.Close()
	if got, want := read(t, s), "id:"+second+"\nevent:gap\ndata:{\"missed\":1}\n\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The seam is between the history and the chain: nothing may be lost or doubled there.
func TestResumingWhileManySendLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	const senders, each, subscribers = 16, 128, 16
	h := New(senders * each)
	start := h.id(0)
	var sending, reading sync.WaitGroup
	got := make([][]string, subscribers)
	for i := range got {
		reading.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for last := start; len(got[i]) < senders*each; {
				s := h.Subscribe(last)
				for range random.IntN(4) + 1 { // then it is cut off
					frames, err := s.Next(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					for _, event := range events(string(frames)) {
						id, rest, _ := strings.Cut(strings.TrimPrefix(event, "id:"), "\n")
						if strings.HasPrefix(rest, "event:") && rest != "event:position\ndata:{}" {
							t.Errorf("unexpected %q", event)
						}
						if data, ok := strings.CutPrefix(rest, "data:"); ok {
							got[i] = append(got[i], data)
							last = id
						}
					}
					if len(got[i]) == senders*each {
						break
					}
				}
			}
		})
	}
	for sender := range senders {
		sending.Go(func() {
			for n := range each {
				send(t, h, []int{sender, n})
			}
		})
	}
	sending.Wait()
	reading.Wait()
	h.Close()
	next := make([]int, senders)
	for _, data := range got[0] {
		var sender, n int
		if !scan(data, "[%d,%d]", &sender, &n) || n != next[sender] {
			t.Fatalf("unexpected %q, want number %d of sender %d", data, next[sender], sender)
		}
		next[sender]++
	}
	for i := range got {
		if !slices.Equal(got[i], got[0]) {
			t.Errorf("subscriber %d saw something else than subscriber 0", i)
		}
	}
}

// A hub runs for months: what it keeps must not grow with what it sent.
func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	h := New(100)
	defer h.Close()
	for n := range 100_000 {
		send(t, h, n)
		if len(h.history) > 100 || cap(h.history) > 1000 {
			t.Fatalf("history of %d messages in %d places", len(h.history), cap(h.history))
		}
	}
	if got := events(string(h.history[99].frame))[0]; !strings.HasSuffix(got, "\ndata:99999") {
		t.Errorf("the newest is %q", got)
	}
}
