package journal

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
	"gin-sse/internal/hub"
)

var (
	everyCut = flag.Bool("damage.every", false, "cut the file off after every single byte, not only after some")
	flips    = flag.Int("damage.flips", 200, "how many single bytes are changed; each of the first ones is in another page")
)

// sample returns a file of several pages, free ones among them, and what a server shows of it.
func sample(t *testing.T) (content []byte, shown string) {
	t.Helper()
	dir := t.TempDir()
	s := start(t, dir, hub.Options{Limits: history.Limits{PerTopic: 10, Bytes: 1 << 20, Window: 1}})
	for i := range 60 {
		s.publish(keyed(i))
	}
	s.publish(event.Message{Topic: "t/9", Data: []byte("9"), End: true})
	s.publish(event.Message{Topic: "t/1", End: true})
	s.restart()
	shown = s.show()
	s.close()
	content, err := os.ReadFile(file(dir))
	if err != nil {
		t.Fatal(err)
	}
	return content, shown
}

// keyed returns one of 39 messages, each with its key.
func keyed(i int) event.Message {
	i %= 39
	return event.Message{Topic: fmt.Sprintf("t/%d", i%3), Key: fmt.Sprint(i), Data: []byte(fmt.Sprintf(`"%d %s"`, i, strings.Repeat("x", 150*(i%3))))}
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
	dir, err := os.MkdirTemp("", "") // t.TempDir would keep all of them until the end of the test
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := file(dir)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	events := hub.New(hub.Options{Limits: history.Limits{PerTopic: 10, Bytes: 1 << 20, Window: 1}})
	defer events.Close()
	j, err := Open(dir, maxEvent, events, t.Logf)
	if err == nil {
		defer j.Close()
		s := &server{t: t, events: events, Journal: j}
		if got := s.show(); got != want {
			t.Errorf("it shows %s, want %s", got, want)
		}
		return nil
	}
	if text := err.Error(); strings.Contains(text, "\n") || !strings.Contains(text, dir) || !strings.Contains(text, "move ") {
		t.Errorf("the error is %q", text)
	}
	after, readErr := os.ReadFile(path)
	entries, listErr := os.ReadDir(dir)
	if readErr != nil || listErr != nil || !bytes.Equal(after, content) || len(entries) != 1 {
		t.Errorf("a refused start has changed the directory: %v, %v, %v", readErr, listErr, entries)
	}
	return err
}

// usedBytes returns where the last page ends that the file has ever used. It is larger, so that it need not grow often.
func usedBytes(t *testing.T, content []byte) (used int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(func(tx *bolt.Tx) error {
		used = int(tx.Size())
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return used
}

func TestAFileThatWasCutOffIsRefusedOrWhole(t *testing.T) {
	t.Parallel()
	file, shown := sample(t)
	if err := try(t, file, shown); err != nil {
		t.Fatal(err)
	}
	used := usedBytes(t, file)
	step := 97
	if *everyCut {
		step = 1
	}
	cuts, refused := 0, 0
	var lengths []int
	for n := 0; n < len(file); n += step {
		lengths = append(lengths, n)
	}
	for n := 0; n < len(file); n += os.Getpagesize() { // each page
		lengths = append(lengths, n)
	}
	for _, n := range lengths {
		cuts++
		if try(t, file[:n], shown) != nil {
			refused++
		} else if n < used {
			t.Errorf("the first %d bytes were taken for the whole file, of which %d are used", n, used)
		}
		if t.Failed() {
			t.Fatalf("%d of %d bytes were there", n, len(file))
		}
	}
	t.Logf("%d of %d were refused; the whole file has %d bytes", refused, cuts, len(file))
}

func TestADamagedFileIsRefusedOrHarmless(t *testing.T) {
	t.Parallel()
	file, shown := sample(t)
	refused := 0
	for n := range *flips {
		damaged := bytes.Clone(file)
		at, change := rand.IntN(len(file)), byte(1+rand.IntN(255))
		if page := n * os.Getpagesize(); page < len(file) { // each page once
			at = page + rand.IntN(os.Getpagesize())
		}
		damaged[at] ^= change
		if try(t, damaged, shown) != nil {
			refused++
		}
		if t.Failed() {
			t.Fatalf("byte %d was changed by %#x", at, change)
		}
	}
	if refused == 0 {
		t.Error("no file was refused")
	}
	t.Logf("%d of %d were refused", refused, *flips)
}
