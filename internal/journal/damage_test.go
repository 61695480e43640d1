package journal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gin-sse/internal/hub"
)

// sample returns a directory with a file of several pages, free ones among them, and what a server shows of it.
func sample(t *testing.T) (file []byte, shown string) {
	t.Helper()
	dir := t.TempDir()
	s := start(t, dir, hub.Limits{History: 10, HistoryBytes: 1 << 20})
	for i := range 60 {
		s.publish(keyed(i))
	}
	s.publish(hub.Message{Topic: "t/9", Data: []byte("9"), End: true})
	s.publish(hub.Message{Topic: "t/1", End: true})
	s.restart()
	shown = s.show()
	s.close()
	file, err := os.ReadFile(filepath.Join(dir, "gin-sse.db"))
	if err != nil {
		t.Fatal(err)
	}
	return file, shown
}

// keyed returns one of 39 messages, each with its key.
func keyed(i int) hub.Message {
	i %= 39
	return hub.Message{Topic: fmt.Sprintf("t/%d", i%3), Key: fmt.Sprint(i), Data: []byte(fmt.Sprintf(`"%d %s"`, i, strings.Repeat("x", 150*(i%3))))}
}

// show returns everything that a client or a publisher could see of what is stored.
func (s *server) show() string {
	known := ""
	for i := range 10 {
		known += fmt.Sprint(" ", s.events.Ended(fmt.Sprint("t/", i)))
	}
	for i := range 39 {
		known += " " + s.publish(keyed(i)) // the id of then
	}
	return fmt.Sprint(s.events.ID(s.last), known, s.read(s.events.ID(1), "t/0", "t/1", "t/2"), s.read("earliest", "*"))
}

// try opens a file and compares what it shows with what it should. It returns the error of the start.
func try(t *testing.T, content []byte, want string) error {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "gin-sse.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	events := hub.New(hub.Limits{History: 10, HistoryBytes: 1 << 20})
	defer events.Close()
	j, err := Open(dir, events, t.Logf)
	if err == nil {
		defer j.Close()
		s := &server{t: t, events: events, Journal: j}
		if got := s.show(); got != want {
			t.Errorf("it shows %s, want %s", got, want)
		}
		return nil
	}
	if text := err.Error(); strings.Contains(text, "\n") || !strings.Contains(text, dir) || !strings.Contains(text, "; ") {
		t.Errorf("the error is %q", text)
	}
	after, readErr := os.ReadFile(path)
	entries, listErr := os.ReadDir(dir)
	if readErr != nil || listErr != nil || !bytes.Equal(after, content) || len(entries) != 1 {
		t.Errorf("a refused start has changed the directory: %v, %v, %v", readErr, listErr, entries)
	}
	return err
}

func TestAFileThatWasCutOffIsRefusedOrWhole(t *testing.T) {
	t.Parallel()
	file, shown := sample(t)
	if err := try(t, file, shown); err != nil {
		t.Fatal(err)
	}
	step := 997
	if testing.Short() {
		step = 5003
	}
	for n := 0; n < len(file); n += step {
		if err := try(t, file[:n], shown); err == nil && n < len(file)/2 {
			t.Errorf("the first %d of %d bytes were taken for the whole file", n, len(file))
		}
	}
}

func TestADamagedFileIsRefusedOrHarmless(t *testing.T) {
	t.Parallel()
	file, shown := sample(t)
	rounds := 300
	if testing.Short() {
		rounds = 60
	}
	refused := 0
	for range rounds {
		flipped := bytes.Clone(file)
		at, bit := rand.IntN(len(file)), rand.IntN(8)
		flipped[at] ^= 1 << bit
		if try(t, flipped, shown) != nil {
			refused++
		}
		if t.Failed() {
			t.Fatalf("bit %d of byte %d was flipped", bit, at)
		}
	}
	if refused == 0 {
		t.Error("no file was refused")
	}
	t.Logf("%d of %d were refused", refused, rounds)
}
