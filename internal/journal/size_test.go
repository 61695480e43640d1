package journal

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
	"gin-sse/internal/hub"
)

var sizeMessages = flag.Int("size.messages", 10_000, "messages that go through the history in the test of the file's size")

func TestTheFileIsAtMostFourTimesWhatItKeeps(t *testing.T) {
	t.Parallel()
	for _, together := range []int{50, 500} {
		s := start(t, t.TempDir(), hub.Options{Limits: history.Limits{PerTopic: 1000, Bytes: 64 << 20, Window: 1}})
		messages := slices.Repeat([]event.Message{message("t", `"`+strings.Repeat("x", 100)+`"`)}, together)
		for range *sizeMessages / together {
			if kept, _, err := s.Publish(t.Context(), messages...); err != nil || kept != together {
				t.Fatalf("%d kept, %v", kept, err)
			}
		}
		kept := 1000 * int64(len(appendMessage(nil, messages[0], new([]byte))))
		if size := s.Size(); size > 4*kept {
			t.Errorf("%d messages at a time make a file of %d bytes, which keeps %d", together, size, kept)
		}
		t.Logf("%d messages, %d at a time, make a file of %d bytes, which keeps %d", *sizeMessages, together, s.Size(), kept)
	}
}

func TestAStartShrinksTheFile(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), hub.Options{Limits: history.Limits{PerTopic: 1000, Bytes: 64 << 20, Window: 1}})
	messages := slices.Repeat([]event.Message{message("t", `"`+strings.Repeat("x", 1000)+`"`)}, 1000)
	if _, _, err := s.Publish(t.Context(), messages...); err != nil {
		t.Fatal(err)
	}
	large := s.Size()
	s.limits.PerTopic = 10
	s.restart()
	if size := s.Size(); large < 1<<20 || size > roomy {
		t.Errorf("the file has %d bytes after %d", size, large)
	}
	s.publish(message("t", "1"))
	s.restart()
	if got := s.read("earliest", "t"); len(got) != 11 || got[0] != "gap {}" || got[10] != "1" {
		t.Errorf("then there is %.100q", got)
	}
}
