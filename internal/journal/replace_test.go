package journal

import (
	"encoding/json"
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

func TestAFileOfVersion1IsTakenOver(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), plenty)
	id := s.publish(message("a", "1"))
	s.publish(message("a", "2"))
	s.close()
	db, err := bolt.Open(file(s.dir), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error { // as version 1 wrote it: without times
		r, err := open(tx)
		if err != nil {
			return err
		}
		for n := range uint64(2) {
			m, err := decodeMessage(encodeNumber(n+1), tx.Bucket(messagesBucket).Get(encodeNumber(n+1)))
			if err != nil {
				return err
			}
			m.Time, m.Data = 0, append(json.RawMessage(nil), m.Data...)
			if err := r.delete(messagesBucket, encodeNumber(n+1)); err != nil {
				return err
			}
			if err := r.add(messagesBucket, encodeNumber(n+1), encodeMessage(m)); err != nil {
				return err
			}
		}
		if err := tx.Bucket(mainBucket).Put(versionKey, []byte(version1)); err != nil {
			return err
		}
		return r.save()
	})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.restart()
	defer s.close()
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
	defer subscriber.Close()
	if piece, err := subscriber.Next(t.Context()); err != nil || strings.Contains(string(piece), "time:") {
		t.Errorf("a message of unknown time is sent as %q, %v", piece, err)
	}
	found := ""
	if err := s.db.View(func(tx *bolt.Tx) error {
		found = string(tx.Bucket(mainBucket).Get(versionKey))
		return nil
	}); err != nil || found != version {
		t.Errorf("the file has version %q, %v; want %q", found, err, version)
	}
}
