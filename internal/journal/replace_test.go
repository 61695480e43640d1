package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

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

func TestAFileOfAnEarlierVersionIsTakenOver(t *testing.T) {
	t.Parallel()
	for _, old := range []string{"1", "2"} {
		s := start(t, t.TempDir(), plenty)
		id := s.publish(message("a", "1"))
		keyed := event.Message{Topic: "a", Data: json.RawMessage("2"), Key: "key"}
		second := s.publish(keyed)
		s.close()
		asWrittenBy(t, s, old)
		s.open()
		if got := fmt.Sprint(s.read(id, "a")); got != "[2]" {
			t.Errorf("there is %s, want [2]", got)
		}
		set, err := event.ParseTopics([]string{"a"})
		if err != nil {
			t.Fatal(err)
		}
		subscriber, err := s.events.Fetch(t.Context(), set, id)
		if err != nil {
			t.Fatal(err)
		}
		piece, err := subscriber.Next(t.Context())
		subscriber.Close()
		if err != nil || strings.Contains(string(piece), "time:") != (old == "2") {
			t.Errorf("a message of version %s is sent as %q, %v", old, piece, err)
		}
		s.publish(message("a", "3"))
		for range 2 {
			if again := s.publish(keyed); again != second {
				t.Errorf("the key brings %s, want %s", again, second)
			}
			s.restart()
		}
		found := ""
		if err := s.db.View(func(tx *bolt.Tx) error {
			found = string(tx.Bucket(mainBucket).Get(versionKey))
			return nil
		}); err != nil || found != version {
			t.Errorf("the file has version %q, %v; want %q", found, err, version)
		}
	}
}

// asWrittenBy makes the file one that an earlier version wrote: without holes, and with messages that have no key, and in
// version 1 no time.
func asWrittenBy(t *testing.T, s *server, old string) {
	t.Helper()
	db, err := bolt.Open(file(s.dir), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		r, err := open(tx)
		if err != nil {
			return err
		}
		for n := range uint64(2) {
			m, err := decodeMessage(encodeNumber(n+1), tx.Bucket(messagesBucket).Get(encodeNumber(n+1)))
			if err != nil {
				return err
			}
			if m.Key, m.Data = "", append(json.RawMessage(nil), m.Data...); old == "1" {
				m.Time = 0
			}
			if err := r.set(messagesBucket, encodeNumber(m.Number), encodeMessage(m)); err != nil {
				return err
			}
		}
		r.state.noted-- // the last message was stored with the last transaction
		if err := tx.DeleteBucket(holesBucket); err != nil {
			return err
		}
		if err := tx.Bucket(mainBucket).Put(versionKey, []byte(old)); err != nil {
			return err
		}
		return r.save()
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
