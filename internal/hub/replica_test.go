package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// follow returns a replica that has these messages of a run, each its number as data.
func follow(t *testing.T, keep int, after uint64, numbers ...uint64) *Hub {
	t.Helper()
	h := NewReplica(keep)
	h.Follow("run", after, after)
	appendAll(t, h, numbers...)
	return h
}

func appendAll(t *testing.T, h *Hub, numbers ...uint64) {
	t.Helper()
	for _, n := range numbers {
		if err := h.Append(n, "", json.RawMessage(fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
}

// short are the events of a subscriber of a closed hub: "position 3", "gap 3 2", a tick's or a message's
// data, without the run if that is "run".
func short(t *testing.T, s *Subscriber) []string {
	t.Helper()
	var all []string
	for _, event := range events(read(t, s)) {
		data, id, name := "", "", ""
		for line := range strings.SplitSeq(event, "\n") {
			field, value, _ := strings.Cut(line, ":")
			switch field {
			case "id":
				id = " " + strings.TrimPrefix(value, "run-")
			case "event":
				name = value
			case "data":
				data = value
			}
		}
		switch name {
		case "position":
			all = append(all, name+id)
		case "gap":
			all = append(all, name+id+" "+strings.Trim(data, `{"mised:}`))
		default:
			all = append(all, data)
		}
	}
	return all
}

func TestReplicaTakesNumbersAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		after string
		want  []string // with 10 appended after the subscription
	}{
		{"new", "", []string{"position 9", "10"}},
		{"up to date", "run-9", []string{"position 9", "10"}},
		{"some missed", "run-7", []string{"position 7", "8", "9", "10"}},
		{"all kept missed", "run-5", []string{"position 5", "6", "7", "8", "9", "10"}},
		{"some gone", "run-2", []string{"gap 5 3", "6", "7", "8", "9", "10"}},
		{"ahead by one", "run-10", []string{"position 10"}},
		{"far ahead", "run-99", []string{"position 99"}},
		{"another run", "old-7", []string{"gap 5 null", "6", "7", "8", "9", "10"}},
		{"no number", "run-x", []string{"gap 5 null", "6", "7", "8", "9", "10"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := follow(t, 100, 5, 6, 7, 8, 9, 9, 7) // what it has already it leaves out
			s := h.Subscribe(test.after)
			appendAll(t, h, 10)
			h.Close()
			if got := short(t, s); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestMissingNumbersAreAGapInTheirPlace(t *testing.T) {
	t.Parallel()
	h := follow(t, 100, 0, 1, 2)
	early, ahead := h.Subscribe("run-1"), h.Subscribe("run-6")
	appendAll(t, h, 6, 7)
	late := h.Subscribe("run-1")
	h.Close()
	for name, test := range map[string]struct {
		s    *Subscriber
		want []string
	}{
		"early":             {early, []string{"position 1", "2", "gap 5 3", "6", "7"}},
		"late":              {late, []string{"position 1", "2", "gap 5 3", "6", "7"}},
		"seen on the other": {ahead, []string{"position 6", "7"}},
	} {
		if got := short(t, test.s); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestWhoComesBeforeTheReplicaKnowsItsRunIsPlacedThen(t *testing.T) {
	t.Parallel()
	h := NewReplica(100)
	fresh, back, foreign := h.Subscribe(""), h.Subscribe("run-3"), h.Subscribe("old-3")
	tick(t, h, 0)
	late := h.Subscribe("")
	h.Follow("run", 2, 4) // 3 and 4 are from before its start
	loading := h.Subscribe("")
	appendAll(t, h, 3, 4, 5)
	h.Close()
	clock := `{"message":0}`
	for name, test := range map[string]struct {
		s    *Subscriber
		want []string
	}{
		"fresh":   {fresh, []string{clock, "position 4", "5"}},
		"late":    {late, []string{clock, "position 4", "5"}},
		"loading": {loading, []string{"position 4", clock, "5"}},
		"back":    {back, []string{clock, "position 3", "4", "5"}},
		"foreign": {foreign, []string{clock, "gap 2 null", "3", "4", "5"}},
	} {
		if got := short(t, test.s); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestAnotherRunIsAGapForAll(t *testing.T) {
	t.Parallel()
	for _, run := range []string{"next", "run"} { // the stream was made anew, or lost messages
		h := follow(t, 100, 0, 1, 2)
		s := h.Subscribe("run-1")
		h.Follow(run, 0, 0)
		appendAll(t, h, 1)
		h.Close()
		prefix := ""
		if run != "run" {
			prefix = run + "-"
		}
		got := short(t, s)
		if want := []string{"position 1", "2", "gap " + prefix + "0 null", "1"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestForgottenMessagesAreAGap(t *testing.T) {
	t.Parallel()
	h := follow(t, 100, 0, 1, 2, 3, 4)
	if n := h.Forget(2); n != 2 {
		t.Errorf("%d were forgotten, want 2", n)
	}
	if n := h.Forget(1); n != 0 {
		t.Errorf("%d were forgotten again", n)
	}
	s := h.Subscribe("run-1")
	if n := h.Forget(99); n != 2 {
		t.Errorf("%d were forgotten, want 2", n)
	}
	all := h.Subscribe("run-1")
	appendAll(t, h, 5)
	h.Close()
	if got, want := short(t, s), []string{"gap 2 1", "3", "4", "5"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := short(t, all), []string{"gap 4 3", "5"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := h.Append(6, "", json.RawMessage(`6`)); !errors.Is(err, ErrClosed) {
		t.Errorf("appended to a closed hub: %v", err)
	}
	h.Follow("later", 0, 0) // a closed hub stays closed
}

func TestUnencodableAppendIsAnErrorAndSendsNothing(t *testing.T) {
	t.Parallel()
	h := follow(t, 100, 0)
	s := h.Subscribe("")
	if err := h.Append(1, "", json.RawMessage("\n\n")); err == nil {
		t.Error("no error for what is not JSON")
	}
	h.Close()
	if got, want := short(t, s), []string{"position 0"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestKeyIsRememberedForTwoMinutes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := New(10)
		defer h.Close()
		publish := func(key string) string {
			id, err := h.Publish(t.Context(), key, "", 1)
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
		first := publish("key")
		time.Sleep(remembered)
		if again := publish("key"); again != first {
			t.Errorf("id %q after two minutes, want %q", again, first)
		}
		time.Sleep(time.Second)
		if again := publish("key"); again == first {
			t.Errorf("id %q as before after more than two minutes", again)
		}
		if one, other := publish(""), publish(""); one == other {
			t.Error("messages without a key have one id")
		}
		for n := range maxKeys {
			publish(fmt.Sprint(n))
		}
		if len(h.keys.ids) != maxKeys || len(h.keys.order) != maxKeys {
			t.Errorf("%d and %d keys are kept, want %d", len(h.keys.ids), len(h.keys.order), maxKeys)
		}
	})
}

func TestKeyUsedByManyAtOnceSendsOneMessage(t *testing.T) {
	t.Parallel()
	h := New(100)
	var publishing sync.WaitGroup
	for range 16 {
		publishing.Go(func() {
			if id, err := h.Publish(t.Context(), "key", "", 1); err != nil || id != h.ID(1) {
				t.Errorf("id %q and %v", id, err)
			}
		})
	}
	publishing.Wait()
	h.Close()
	if _, err := h.Publish(t.Context(), "other", "", 1); !errors.Is(err, ErrClosed) {
		t.Errorf("published to a closed hub: %v", err)
	}
	if kept := h.Stats().Kept; kept != 1 {
		t.Errorf("%d messages, want 1", kept)
	}
}
