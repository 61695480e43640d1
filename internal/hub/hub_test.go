package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type data map[string]any

var roomy = limits(10_000, 64<<20)

func limits(perTopic int, bytes int64) Options {
	return Options{Limits: history.Limits{PerTopic: perTopic, Bytes: bytes, Window: 1}}
}

func begun(options Options) *Hub {
	h := New(options)
	h.Begin("e", 0, 0)
	return h
}

func newHub(t *testing.T, options Options) *Hub {
	h := begun(options)
	t.Cleanup(h.Close)
	return h
}

func topics(t *testing.T, names ...string) event.Topics {
	t.Helper()
	set, err := event.ParseTopics(names)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func subscribe(t *testing.T, h *Hub, after string, names ...string) *Subscriber {
	t.Helper()
	s, err := h.Subscribe(t.Context(), topics(t, names...), after)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func send(t *testing.T, h *Hub, number uint64, topic string) {
	t.Helper()
	if err := h.Append(event.Message{Number: number, Topic: topic, Data: json.RawMessage(fmt.Sprint(number))}); err != nil {
		t.Fatal(err)
	}
}

func end(t *testing.T, h *Hub, number uint64, topic string) {
	t.Helper()
	if err := h.Append(event.Message{Number: number, Topic: topic, Data: json.RawMessage(`"end"`), End: true}); err != nil {
		t.Fatal(err)
	}
}

func tick(t *testing.T, h *Hub, value any) {
	t.Helper()
	if err := h.Tick(data{"message": value}); err != nil {
		t.Fatal(err)
	}
}

var startBlock = regexp.MustCompile(`^retry:([234]\d\d\d)\n(id:(.*)\nevent:position\ndata:{"live":(true|false)}\n)?\n`)

// brief is a stream in short: "from 3" is where it begins, "4" a message, "gap 7" a gap of 2, "tick".
func brief(t *testing.T, stream string) string {
	t.Helper()
	var events []string
	for block := range strings.SplitAfterSeq(stream, "\n\n") {
		var id, event, data string
		for line := range strings.SplitSeq(strings.TrimSuffix(block, "\n\n"), "\n") {
			name, value, _ := strings.Cut(line, ":")
			switch name {
			case "id":
				_, id, _ = strings.Cut(value, "-")
			case "event":
				event = value
			case "data":
				data = value
			}
		}
		switch {
		case block == "":
		case block == ":\n\n":
			events = append(events, "comment")
		case startBlock.MatchString(block) && id == "":
			events = append(events, "start")
		case event == "position" && strings.HasPrefix(block, "retry:") || event == "position" && data == `{"live":false}`:
			events = append(events, "from "+id)
		case event == "position": // the second one, see TestASubscriberIsToldWhenItHasCaughtUp
		case event == "gap":
			events = append(events, strings.TrimSuffix("gap "+id+" "+strings.Trim(data, "{}"), " "))
		case id == "":
			events = append(events, "tick")
		default:
			events = append(events, id)
		}
	}
	return strings.Join(events, ", ")
}

// now returns what the subscriber gets without waiting.
func now(t *testing.T, s *Subscriber) string {
	t.Helper()
	left, leave := context.WithCancel(t.Context())
	leave()
	var all strings.Builder
	for {
		piece, err := s.Next(left)
		if all.Write(piece); err != nil {
			return all.String()
		}
	}
}

func expect(t *testing.T, s *Subscriber, want string) {
	t.Helper()
	if got := brief(t, now(t, s)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTickIsTheTutorialsFrame(t *testing.T) {
	t.Parallel()
	h := newHub(t, roomy)
	s := subscribe(t, h, "")
	tick(t, h, "Server Time: 2:03:25 PM <")
	got := now(t, s)
	if want := "data:{\"message\":\"Server Time: 2:03:25 PM <\"}\n\n"; startBlock.ReplaceAllString(got, "") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if begin := startBlock.FindStringSubmatch(got); begin == nil || begin[3] != "e-0" {
		t.Errorf("the stream begins with %q", got)
	}
}

func TestMessageHasItsIdItsNameAndItsData(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		`{"message":"a\nb\r</script>"}`:      `{"message":"a\nb\r</script>"}`,
		"null":                               "null",
		"[1,\n2]":                            "[1, 2]",
		`"` + "\u2028" + `"`:                 `"\u2028"`,
		`""`:                                 `""`,
		`{"a":"` + `\u003c\\n` + `"}`:        `{"a":"\u003c\\n"}`,
		strings.Repeat("[", 9) + "]]]]]]]]]": "[[[[[[[[[]]]]]]]]]",
	} {
		h := newHub(t, roomy)
		s := subscribe(t, h, "e-0", "a")
		if err := h.Append(event.Message{Number: 7, Topic: "a", Name: "deploy.done", Data: json.RawMessage(data)}); err != nil {
			t.Error(err)
		}
		if got, want := startBlock.ReplaceAllString(now(t, s), ""), "id:e-7\nevent:deploy.done\ntopic:a\ndata:"+want+"\n\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestATickThatIsNotJSONIsAnErrorAndSendsNothing(t *testing.T) {
	t.Parallel()
	h := newHub(t, roomy)
	s := subscribe(t, h, "")
	if err := h.Tick(data{"message": func() {}}); err == nil {
		t.Error("no error for a function as data")
	}
	send(t, h, 1, "")
	expect(t, s, "from 0, 1")
}

func TestNewSubscriberGetsTheLatestTickAtOnceAndOnce(t *testing.T) {
	t.Parallel()
	h := newHub(t, roomy)
	early := subscribe(t, h, "")
	tick(t, h, 1)
	tick(t, h, 2)
	late, other, back := subscribe(t, h, ""), subscribe(t, h, "", "a"), subscribe(t, h, "e-0")
	all := now(t, back)
	tick(t, h, 3)
	expect(t, early, "from 0, tick, tick, tick")
	expect(t, late, "from 0, tick, tick")
	expect(t, other, "from 0")
	if got := brief(t, all+now(t, back)); got != "from 0, tick, tick" {
		t.Errorf("the one that came back got %q", got)
	}
}

func TestAClientThatComesBackGetsWhatItMissed(t *testing.T) {
	t.Parallel()
	for after, want := range map[string]string{
		"":                            "from 8",
		"e-8":                         "from 8",
		"e-7":                         "from 7, 8",
		"e-3":                         "from 3, 4, 5, 6, 7, 8",
		"e-2":                         "from 2, gap 3, 4, 5, 6, 7, 8",
		"e-0":                         "from 0, gap 3, 4, 5, 6, 7, 8",
		"earliest":                    "from 0, gap 3, 4, 5, 6, 7, 8",
		"f-8":                         "from 3, gap 3, 4, 5, 6, 7, 8",
		"e-9":                         "from 3, gap 3, 4, 5, 6, 7, 8",
		"e-18446744073709551615":      "from 3, gap 3, 4, 5, 6, 7, 8",
		"e-8000000000000000000000000": "from 3, gap 3, 4, 5, 6, 7, 8",
		"e--8":                        "from 3, gap 3, 4, 5, 6, 7, 8",
		"\x00\r\n☃":                   "from 3, gap 3, 4, 5, 6, 7, 8",
		strings.Repeat("9", 10<<10):   "from 3, gap 3, 4, 5, 6, 7, 8",
	} {
		h := newHub(t, limits(5, 1<<20))
		for n := range uint64(8) {
			send(t, h, n+1, "")
		}
		s := subscribe(t, h, after)
		got := brief(t, now(t, s))
		send(t, h, 9, "")
		if h.flush(); got+", "+brief(t, now(t, s)) != want+", 9" {
			t.Errorf("after %.20q: %q, want %q", after, got, want)
		}
	}
}

func TestGapIsInItsPlace(t *testing.T) {
	t.Parallel()
	h := newHub(t, limits(2, 1<<20))
	for n, topic := range []string{"a", "b", "a/x", "a", "c", "a", "b", "a", "a/x"} { // 1 to 9
		send(t, h, uint64(n+1), topic)
	}
	for _, test := range []struct {
		after string
		names string
		want  string
	}{
		{"e-0", "a", "from 0, gap 4, 6, 8"},
		{"e-1", "a", "from 1, gap 4, 6, 8"},
		{"e-4", "a", "from 4, 6, 8"},
		{"e-0", "a b", "from 0, 2, gap 4, 6, 7, 8"},
		{"e-2", "a b", "from 2, gap 4, 6, 7, 8"},
		{"e-0", "b c", "from 0, 2, 5, 7"},
		{"e-0", "*", "from 0, 2, 3, gap 4, 5, 6, 7, 8, 9"},
		{"e-4", "*", "from 4, 5, 6, 7, 8, 9"},
		{"e-0", "a/*", "from 0, 3, 9"},
		{"e-0", "b a/*", "from 0, 2, 3, 7, 9"},
		{"earliest", "a b", "from 0, 2, gap 4, 6, 7, 8"},
		{"earliest", "a", "from 0, gap 4, 6, 8"},
		{"f-1", "a b", "from 0, gap 0, 2, gap 4, 6, 7, 8"},
		{"f-1", "a", "from 4, gap 4, 6, 8"},
		{"e-0", "nobody", "from 0"},
	} {
		s := subscribe(t, h, test.after, strings.Fields(test.names)...)
		if got := brief(t, now(t, s)); got != test.want {
			t.Errorf("%s after %s: %q, want %q", test.names, test.after, got, test.want)
		}
	}
}

func TestEndedTopicsEndTheStream(t *testing.T) {
	t.Parallel()
	h := newHub(t, roomy)
	one, both, wild := subscribe(t, h, "", "a"), subscribe(t, h, "", "a", "b"), subscribe(t, h, "", "*")
	send(t, h, 1, "a")
	end(t, h, 2, "a")
	expect(t, one, "from 0, 1, 2")
	if _, err := one.Next(t.Context()); !errors.Is(err, event.ErrEnded) {
		t.Errorf("after the end: %v, want event.ErrEnded", err)
	}
	if !h.Ended("a") || h.Ended("b") || h.Ended("*") {
		t.Error("only a has ended")
	}
	h.flush()
	expect(t, both, "from 0, 1, 2")
	send(t, h, 3, "b")
	h.flush()
	expect(t, both, "3")
	expect(t, wild, "from 0, 1, 2, 3")

	late := subscribe(t, h, "", "a")
	expect(t, late, "from 0, 1, 2")
	if _, err := late.Next(t.Context()); !errors.Is(err, event.ErrEnded) {
		t.Errorf("a late subscriber: %v, want event.ErrEnded", err)
	}
	expect(t, subscribe(t, h, "e-1", "a"), "from 1, 2")
	for _, after := range []string{"e-2", "e-3"} {
		if _, err := h.Subscribe(t.Context(), topics(t, "a"), after); !errors.Is(err, event.ErrEnded) {
			t.Errorf("after %s: %v, want event.ErrEnded", after, err)
		}
	}
	expect(t, subscribe(t, h, "e-3", "a", "b"), "from 3")
	end(t, h, 4, "b")
	h.flush()
	expect(t, both, "4")
	if _, err := both.Next(t.Context()); !errors.Is(err, event.ErrEnded) {
		t.Errorf("once both ended: %v, want event.ErrEnded", err)
	}

	send(t, h, 5, "a")
	if h.Ended("a") {
		t.Error("a message did not open the topic again")
	}
	h.flush()
	expect(t, subscribe(t, h, "e-2", "a"), "from 2, 5")
}

func TestAFetchIsCompleteUpToTheNewestMessageOfAllTopics(t *testing.T) {
	t.Parallel()
	h := newHub(t, roomy)
	for number, topic := range []string{"a", "b", "a", "b"} {
		send(t, h, uint64(number+1), topic)
	}
	h.See(9) // messages up to there are in the log, and did not come yet: one may be of this topic
	for _, after := range []string{"e-1", "e-3", "e-4", Earliest, Latest, ""} {
		s, err := h.Fetch(t.Context(), topics(t, "a"), after)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		if got := now(t, s); !strings.HasSuffix(got, "id:e-4\nevent:position\ndata:{\"live\":true}\n\n") {
			t.Errorf("after %q: %q", after, got)
		}
	}
}

func TestAnEndEndsStreamsAlthoughNothingIsKept(t *testing.T) {
	t.Parallel()
	for _, options := range []Options{{}, limits(10, 0), limits(0, 1000), limits(10, 300)} {
		h := newHub(t, options)
		s := subscribe(t, h, "", "a")
		end(t, h, 1, "a")
		expect(t, s, "from 0, 1")
		if _, err := s.Next(t.Context()); err != event.ErrEnded {
			t.Errorf("%+v: the error is %v", options, err)
		}
		if !h.Ended("a") {
			t.Errorf("%+v: the topic goes on", options)
		}
	}
}

func TestSubscriberFarBehindCatchesUpInPieces(t *testing.T) {
	t.Parallel()
	for _, after := range []string{"", "e-0"} { // waiting since the beginning, and after an id
		h := newHub(t, limits(20_000, 64<<20))
		s := subscribe(t, h, after)
		const messages = 10_000
		for n := range messages {
			send(t, h, uint64(n+1), "")
		}
		h.flush()
		total, pieces := 0, 0
		for next := 1; next <= messages; pieces++ {
			piece, err := s.Next(t.Context())
			if err != nil || len(piece) > history.MaxPiece {
				t.Fatalf("a piece of %d bytes, error %v", len(piece), err)
			}
			total += len(piece)
			for _, event := range strings.Split(brief(t, string(piece)), ", ") {
				if strings.HasPrefix(event, "from ") {
					continue
				}
				if event != fmt.Sprint(next) {
					t.Fatalf("event %q, want %d", event, next)
				}
				next++
			}
		}
		if limit := 2*total/history.MaxPiece + 3; pieces > limit {
			t.Errorf("%d bytes came in %d pieces, want at most %d", total, pieces, limit)
		}
	}
}

func TestEventLargerThanAPieceIsHandedOverWhole(t *testing.T) {
	t.Parallel()
	h := newHub(t, roomy)
	live, back := subscribe(t, h, ""), subscribe(t, h, "e-0")
	big := `"` + strings.Repeat("x", 2*history.MaxPiece) + `"`
	for n, data := range []string{"1", big, "2"} {
		if err := h.Append(event.Message{Number: uint64(n + 1), Data: json.RawMessage(data)}); err != nil {
			t.Fatal(err)
		}
	}
	h.flush()
	for name, s := range map[string]*Subscriber{"live": live, "back": back} {
		var pieces []string
		for range 3 {
			piece, err := s.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			pieces = append(pieces, brief(t, string(piece)))
		}
		if got := strings.Join(pieces, "; "); got != "from 0; 1; 2" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestCloseEndsEverySubscriptionAfterWhatWasSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := begun(roomy)
		send(t, h, 1, "")
		var waiting sync.WaitGroup
		for i := range 1000 {
			s := subscribe(t, h, []string{"", "e-0", "earliest"}[i%3])
			waiting.Go(func() {
				var all strings.Builder
				for {
					piece, err := s.Next(t.Context())
					if err != nil {
						if !errors.Is(err, event.ErrClosed) {
							t.Error(err)
						}
						break
					}
					all.Write(piece)
				}
				if !strings.HasSuffix(all.String(), "data:3\n\n") {
					t.Errorf("the stream ended with %q", all.String())
				}
			})
		}
		lazy := subscribe(t, h, "e-0")
		synctest.Wait()
		send(t, h, 2, "")
		send(t, h, 3, "") // waits for its pace
		h.Close()
		h.Close()
		waiting.Wait()
		expect(t, lazy, "from 0, 1, 2, 3")
		if err := h.Tick(data{}); !errors.Is(err, event.ErrClosed) {
			t.Errorf("a tick to a closed hub: %v, want event.ErrClosed", err)
		}
		if err := h.Append(event.Message{Number: 4, Data: json.RawMessage("1")}); !errors.Is(err, event.ErrClosed) {
			t.Errorf("a message to a closed hub: %v, want event.ErrClosed", err)
		}
		late, err := h.Subscribe(t.Context(), event.Topics{}, "")
		if err != nil {
			t.Fatal(err)
		}
		defer late.Close()
		now(t, late)
		if _, err := late.Next(t.Context()); !errors.Is(err, event.ErrClosed) {
			t.Errorf("a subscriber of a closed hub: %v, want event.ErrClosed", err)
		}
	})
}

func TestNextEndsWithItsContextAndCanBeCalledAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := begun(roomy)
		defer h.Close()
		s := subscribe(t, h, "")
		now(t, s)
		gone := errors.New("client gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(gone) })
		if _, err := s.Next(ctx); !errors.Is(err, gone) {
			t.Errorf("error %v, want %v", err, gone)
		}
		tick(t, h, 1)
		if piece, err := s.Next(t.Context()); err != nil || brief(t, string(piece)) != "tick" {
			t.Errorf("then %q and error %v, want the tick", piece, err)
		}
	})
}

func TestNothingIsHandedOverAfterADeadline(t *testing.T) {
	t.Parallel()
	h := begun(roomy)
	defer h.Close()
	s := subscribe(t, h, "")
	expired, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	tick(t, h, 1) // and there would be more each time
	if piece, err := s.Next(expired); !errors.Is(err, context.DeadlineExceeded) || len(piece) > 0 {
		t.Errorf("after the deadline it gets %q and error %v", piece, err)
	}
	left, leave := context.WithCancel(t.Context())
	leave()
	if piece, err := s.Next(left); err != nil || brief(t, string(piece)) != "from 0" {
		t.Errorf("with a context that was canceled it gets %q and error %v, want the start", piece, err)
	}
	if piece, err := s.Next(left); err != nil || !strings.Contains(string(piece), `data:{"message":1}`) {
		t.Errorf("with a context that was canceled it gets %q and error %v, want the tick", piece, err)
	}
}

func TestManyPublishersAndNewSubscribersSeeOneOrderWithoutLossOrDouble(t *testing.T) {
	t.Parallel()
	const messages, readers = 3000, 24
	h := newHub(t, limits(messages, 64<<20))
	sets := [][]string{{"a"}, {"a", "b"}, {"*"}, {"a", "b/*"}}
	pool := []string{"a", "b", "b/x", "c"}
	var running sync.WaitGroup
	for i := range readers {
		names := sets[i%len(sets)]
		running.Go(func() {
			want := []uint64{}
			for n := range uint64(messages) {
				if slices.ContainsFunc(names, func(name string) bool { return event.Pattern(name).Matches(pool[n%4]) }) {
					want = append(want, n+1)
				}
			}
			after := "e-0"
			for len(want) > 0 {
				set, _ := event.ParseTopics(names)
				s, err := h.Subscribe(t.Context(), set, after)
				if err != nil {
					t.Error(err)
					return
				}
				for range 1 + i { // pieces, before it comes back
					piece, err := s.Next(t.Context())
					if err != nil {
						t.Error(err)
					}
					for event := range strings.SplitSeq(brief(t, string(piece)), ", ") {
						if strings.HasPrefix(event, "from ") || event == "comment" || event == "" {
							continue
						}
						if event != fmt.Sprint(want[0]) {
							t.Errorf("%q after %q: %q, want %d", names, after, event, want[0])
							s.Close()
							return
						}
						after, want = "e-"+event, want[1:]
					}
					if len(want) == 0 {
						break
					}
				}
				s.Close()
			}
		})
	}
	for n := range uint64(messages) {
		send(t, h, n+1, pool[n%4])
		if n%64 == 0 {
			runtime.Gosched()
		}
	}
	running.Wait()
}

func TestAnEndWithoutAnEventComesAfterTheLastMessage(t *testing.T) {
	t.Parallel()
	h := newHub(t, roomy)
	live, empty := subscribe(t, h, "", "a"), subscribe(t, h, "", "b")
	send(t, h, 1, "a")
	for number, topic := range []string{2: "a", 3: "b"} {
		if topic == "" {
			continue
		}
		if err := h.Append(event.Message{Number: uint64(number), Topic: topic, End: true}); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, live, "from 0, 1")
	expect(t, empty, "from 0")
	for _, s := range []*Subscriber{live, empty} {
		if _, err := s.Next(t.Context()); !errors.Is(err, event.ErrEnded) {
			t.Errorf("%v, want event.ErrEnded", err)
		}
	}
	// A client that has seen the last message has seen the end.
	if _, err := h.Subscribe(t.Context(), topics(t, "a"), "e-1"); !errors.Is(err, event.ErrEnded) {
		t.Errorf("after the last message: %v, want event.ErrEnded", err)
	}
	expect(t, subscribe(t, h, "", "a"), "from 0, 1")
	if published := h.Stats().Published; published != 1 {
		t.Errorf("%d messages, want 1", published)
	}
}
