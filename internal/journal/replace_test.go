package journal

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	bolt "go.etcd.io/bbolt"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
	"gin-sse/internal/hub"
)

func replacement(topic, data string) event.Message {
	return event.Message{Topic: topic, Data: json.RawMessage(data), Replace: true}
}

// crash starts another server on what is on the disk at this moment.
func (s *server) crash() *server {
	s.t.Helper()
	data, err := os.ReadFile(file(s.dir))
	if err != nil {
		s.t.Fatal(err)
	}
	dir := s.t.TempDir()
	if err := os.WriteFile(file(dir), data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	other := start(s.t, dir, s.limits)
	s.t.Cleanup(other.close)
	return other
}

func TestWhatIsReplacedIsGoneAsSoonAsThatIsAcknowledged(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), hub.Options{Limits: history.Limits{PerTopic: 2, Bytes: 1 << 20, Window: 1}})
	defer s.close()
	first := s.publish(message("a", "1"))
	for _, data := range []string{"2", "3", "4"} { // with HISTORY=2, some are lost
		s.publish(message("a", data))
	}
	s.publish(message("b", "5"))
	if kept, _, err := s.Publish(t.Context(), replacement("a", "6"), message("a", "7"), replacement("a", "8")); kept != 3 || err != nil {
		t.Fatalf("%d were stored: %v", kept, err)
	}
	for _, now := range []*server{s, s.crash()} {
		for after, want := range map[string]string{first: "[8]", "earliest": "[8]"} {
			if got := fmt.Sprint(now.read(after, "a")); got != want {
				t.Errorf("after %s there is %s, want %s", after, got, want)
			}
		}
	}
	s.publish(event.Message{Topic: "a", End: true, Replace: true})
	s.publish(event.Message{Topic: "a", End: true, Replace: true}) // it has ended, and is erased all the same
	for _, now := range []*server{s, s.crash()} {
		if got := fmt.Sprint(now.read("earliest", "a")); got != "[ended]" && got != "[]" && got != "[end]" {
			t.Errorf("an erased topic has %s", got)
		}
		if !now.events.Ended("a") {
			t.Error("it goes on")
		}
	}
}

// The files are of gin-sse 0.2.0, 0.4.0 and the last commit before format 4. Each server was killed after it had published 1
// and 2 to a, the latter with a key, 3 to b, which it ended, 4 to c, which ended without an event, 5 to d, 6 in its place
// (not 0.2.0), and 7 to a, with another key. That of format 3 was started again before 5.
func TestAFileOfAnEarlierVersionIsTakenOver(t *testing.T) {
	t.Parallel()
	for format, last := range map[string]string{"1": "7", "2": "8", "3": "62696620460"} {
		dir := t.TempDir()
		if err := os.WriteFile(file(dir), unpacked(t, "format"+format+".db.gz"), 0o600); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) { // in the year 2000, so keys of later are known
			s := start(t, dir, plenty)
			defer s.close()
			want := map[string]string{"a": "[1 2 7]", "b": "[3 end]", "c": "[4 end]", "d": "[6]"}
			if format == "1" {
				want["d"] = "[5]"
			}
			for range 3 {
				for topic, want := range want {
					if got := fmt.Sprint(s.read("earliest", topic)); got != want {
						t.Errorf("of format %s, topic %s has %s, want %s", format, topic, got, want)
					}
				}
				for key, want := range map[string]struct{ data, number string }{"key": {"2", "2"}, "second": {"7", last}} {
					m := message("a", want.data)
					if m.Key = key; s.publish(m) != s.epoch+"-"+want.number {
						t.Errorf("the key %q of format %s stands for another message than %s", key, format, want.number)
					}
				}
				if got := fmt.Sprint(s.read(s.epoch+"-1000000", "d")); format == "3" && got != "[gap {} 6]" {
					t.Errorf("after an id in the hole there is %s", got)
				}
				s.restart()
			}
			set, err := event.ParseTopics([]string{"a"})
			if err != nil {
				t.Fatal(err)
			}
			subscriber, err := s.events.Fetch(t.Context(), set, "earliest")
			if err != nil {
				t.Fatal(err)
			}
			piece, err := subscriber.Next(t.Context())
			subscriber.Close()
			if err != nil || strings.Contains(string(piece), "time:") == (format == "1") {
				t.Errorf("messages of format %s are sent as %q, %v", format, piece, err)
			}
			if err := s.db.View(func(tx *bolt.Tx) error {
				return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
					if found := b.Get(versionKey); slices.Contains(oldBuckets, string(name)) || found != nil && string(found) != version {
						t.Errorf("the file has a bucket %s, with version %q", name, found)
					}
					return nil
				})
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// unpacked returns the content of a file in testdata.
func unpacked(t *testing.T, name string) []byte {
	t.Helper()
	packed, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	r, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
