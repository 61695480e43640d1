package journal

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	bolt "go.etcd.io/bbolt"

	"gin-sse/internal/event"
)

func TestMessagesThatWaitAreWrittenTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := start(t, t.TempDir(), plenty)
		update, disk, commits := s.update, make(chan struct{}), 0
		s.update = func(do func(*bolt.Tx) error) error {
			commits++
			<-disk
			return update(do)
		}
		var publishing sync.WaitGroup
		for n := range 50 {
			publishing.Go(func() { s.publish(message("t", fmt.Sprint(n))) })
			synctest.Wait() // the first one is being written, and the others wait
		}
		close(disk)
		publishing.Wait()
		if got := s.read("earliest", "t"); len(got) != 50 || commits != 2 {
			t.Errorf("%d commits have stored %q", commits, got)
		}
	})
}

func TestADiskThatDoesNotAnswerKeepsPublishersWaitingForFiveSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := start(t, t.TempDir(), plenty)
		update, disk := s.update, make(chan struct{})
		s.update = func(do func(*bolt.Tx) error) error {
			<-disk
			return update(do)
		}
		var logged atomic.Int32
		s.log = func(format string, args ...any) {
			if want := "the disk of DATA_DIR has not answered for 5s; "; !strings.HasPrefix(fmt.Sprintf(format, args...), want) {
				t.Errorf("it logs "+format, args...)
			}
			logged.Add(1)
		}
		var publishing sync.WaitGroup
		begin := time.Now()
		for n := range 3 { // one is being written, one waits for its turn
			publishing.Go(func() {
				m := message("t", fmt.Sprint(n))
				m.Key = fmt.Sprint(n)
				if kept, _, err := s.Publish(t.Context(), m); kept != 0 || !errors.Is(err, errSlow) || time.Since(begin) != slow {
					t.Errorf("after %v, %d are kept: %v", time.Since(begin), kept, err)
				}
			})
			synctest.Wait()
		}
		publishing.Wait()
		time.Sleep(time.Millisecond)
		if err := s.Ready(); err == nil || err.Error() != "the disk has not answered for 5s" {
			t.Errorf("it is ready: %v", err)
		}
		if got := s.read("earliest", "t"); len(got) != 0 || logged.Load() != 1 {
			t.Errorf("subscribers got %q before it was on the disk; the log has %d lines", got, logged.Load())
		}
		close(disk)
		synctest.Wait()
		if err := s.Ready(); err != nil {
			t.Error(err)
		}
		first := message("t", "0") // it was stored after all
		first.Key = "0"
		if id := s.publish(first); !strings.HasSuffix(id, "-1") {
			t.Errorf("publishing again brings id %q", id)
		}
	})
}

func TestAFileThatIsGoneIsNoticed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := start(t, t.TempDir(), plenty)
		s.publish(message("t", "1"))
		path, away := file(s.dir), file(s.dir)+".away"
		refused := func() {
			t.Helper()
			kept, _, err := s.Publish(t.Context(), message("t", "2"))
			if want := "gin-sse.db was removed or replaced: put it back, or start the server again"; kept != 0 || err == nil || err.Error() != want || s.Ready() == nil {
				t.Errorf("%d are kept: %v; ready: %v; want %q", kept, err, s.Ready(), want)
			}
			time.Sleep(3 * probeWait)
			if s.Ready() == nil {
				t.Error("it is ready again")
			}
		}
		if err := os.Rename(path, away); err != nil {
			t.Fatal(err)
		}
		refused()
		if _, err := os.Stat(path); err == nil {
			t.Error("it has made another file")
		}
		if err := os.WriteFile(path, []byte("other"), 0o600); err != nil {
			t.Fatal(err)
		}
		refused()
		if content, err := os.ReadFile(path); err != nil || string(content) != "other" {
			t.Errorf("it has changed the other file: %v, %q", err, content)
		}
		if err := os.Rename(away, path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(probeWait)
		synctest.Wait()
		if err := s.Ready(); err != nil {
			t.Fatal(err)
		}
		if id := s.publish(message("t", "3")); !strings.HasSuffix(id, "-2") {
			t.Errorf("the next id is %s", id)
		}
		s.restart()
		if got := fmt.Sprint(s.read("earliest", "t")); got != "[1 3]" {
			t.Errorf("after a restart there is %s", got)
		}
	})
}

func TestAFileThatWasCutShortIsReportedWhileClientsAreServed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := start(t, t.TempDir(), plenty)
		s.publish(message("t", "1"))
		s.publish(message("t", `"`+strings.Repeat("x", 100_000)+`"`))
		for _, data := range []string{"3", "4"} { // the last one makes the file no larger
			s.publish(message("t", data))
		}
		if err := os.Truncate(file(s.dir), s.Size()-2*int64(s.pageSize)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			kept, _, err := s.Publish(t.Context(), message("t", "5"))
			if kept != 0 || err == nil || !strings.HasPrefix(err.Error(), "gin-sse.db was cut short: stop the server, put a backup in its place") || s.Ready() == nil {
				t.Errorf("%d are kept: %v; ready: %v", kept, err, s.Ready())
			}
			time.Sleep(3 * probeWait)
		}
		if got := s.read("earliest", "t"); len(got) != 4 {
			t.Errorf("clients get %.40q", got)
		}
	})
}

// A message that fits must not make a server ready on which larger ones have failed.
func TestAServerIsReadyAgainOnceWhatFailedCanBeStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := start(t, t.TempDir(), plenty)
		var room atomic.Int64 // bytes that fit
		update := s.update
		s.update = func(do func(*bolt.Tx) error) error {
			return update(func(tx *bolt.Tx) error {
				if err := do(tx); err != nil {
					return err
				}
				r, err := open(tx)
				size := len(r.main.Get(probeKey)) + len(r.state.messages)
				_ = r.all.ForEach(func(_, value []byte) error {
					size += len(value)
					return nil
				})
				if int64(size) > room.Load() {
					return errStrike
				}
				return err
			})
		}
		await := func(size int64, want error) {
			t.Helper()
			room.Store(size)
			time.Sleep(2 * probeWait)
			synctest.Wait()
			if err := s.Ready(); !errors.Is(err, want) {
				t.Errorf("with room for %d bytes, it says %v, want %v", size, err, want)
			}
		}
		for _, size := range []int{5000, 10} {
			if _, _, err := s.Publish(t.Context(), message("t", `"`+strings.Repeat("x", size)+`"`)); !errors.Is(err, errStrike) {
				t.Fatal(err)
			}
		}
		await(4000, errStrike)
		await(11_000, nil)
		room.Store(0)
		if _, _, err := s.Publish(t.Context(), message("t", "1")); !errors.Is(err, errStrike) {
			t.Fatal(err)
		}
		await(maxEvent, errStrike)
		await(2*maxEvent, nil)
	})
}

// What a probe writes must not take the room that messages need.
func TestAProbeLeavesRoomForTheMessagesThatCouldNotBeStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := start(t, t.TempDir(), plenty)
		large := message("t", `"`+strings.Repeat("x", 500_000)+`"`)
		s.strike.Store(fails)
		if _, _, err := s.Publish(t.Context(), large); !errors.Is(err, errStrike) {
			t.Fatal(err)
		}
		s.strike.Store(0)
		time.Sleep(probeWait)
		synctest.Wait()
		before := s.Size()
		s.publish(large)
		if after := s.Size(); before < 500_000 || after > before {
			t.Errorf("after the probe the file had %d bytes, and with the message %d", before, after)
		}
	})
}

func TestADatabaseThatPanicsIsAnErrorUntilTheNextStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := start(t, t.TempDir(), plenty)
		s.publish(message("t", "1"))
		s.update = func(func(*bolt.Tx) error) error { panic("no page") }
		for range 2 {
			kept, _, err := s.Publish(t.Context(), message("t", "2"))
			if kept != 0 || err == nil || !strings.Contains(err.Error(), "must be started again: no page") || s.Ready() == nil {
				t.Errorf("%d are kept: %v; ready: %v", kept, err, s.Ready())
			}
			time.Sleep(2 * probeWait)
		}
		db := s.db
		s.close()
		if err := db.Close(); err != nil { // which Close had to leave open
			t.Fatal(err)
		}
		s.open()
		if got := fmt.Sprint(s.read("earliest", "t")); got != "[1]" {
			t.Errorf("after a restart there is %s", got)
		}
	})
}

func TestCloseAnswersEveryPublisherAndKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), plenty)
	j := s.Journal
	var publishing sync.WaitGroup
	var kept atomic.Int64
	for range 20 {
		publishing.Go(func() {
			for {
				n, _, err := j.Publish(t.Context(), message("t", "1"))
				kept.Add(int64(n))
				if err != nil {
					if n != 0 || !errors.Is(err, event.ErrClosed) {
						t.Errorf("%d are kept: %v", n, err)
					}
					return
				}
			}
		})
	}
	for range 20 {
		s.publish(message("other", "1"))
	}
	s.close()
	publishing.Wait()
	s.open()
	if want := uint64(kept.Load() + 20); s.last != want {
		t.Errorf("the last number is %d, want %d", s.last, want)
	}
}

func TestKeysAreKnownForTwoMinutesEvenIfTheClockIsSetBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := message("t", "1")
	m.Key = "key"
	var first string
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		s := start(t, dir, plenty)
		first = s.publish(m)
		time.Sleep(time.Minute)
		s.restart()
		if id := s.publish(m); id != first {
			t.Errorf("the key brings %q, want %q", id, first)
		}
	})
	synctest.Test(t, func(t *testing.T) { // an hour ago
		s := start(t, dir, plenty)
		time.Sleep(2 * time.Minute)
		if id := s.publish(m); id != first {
			t.Errorf("after the clock was set back, the key brings %q, want %q", id, first)
		}
		time.Sleep(time.Second)
		if id := s.publish(m); id == first {
			t.Error("the key is known for longer than two minutes")
		}
	})
}

// The file still has the first use when the server is killed, because only a note removes it.
func TestAKeyThatIsUsedAgainAfterTwoMinutesIsKnownAfterAKill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := start(t, t.TempDir(), plenty)
		m := message("t", "1")
		m.Key = "key"
		first := s.publish(m)
		s.restart() // it makes a note
		time.Sleep(2*time.Minute + time.Second)
		again := s.publish(m)
		s.strike.Store(fails) // so that no more is written
		s.close()
		s.strike.Store(0)
		s.open()
		if id := s.publish(m); id != again || id == first {
			t.Errorf("the key brings %q, want %q", id, again)
		}
	})
}

func TestMetricsCountCommits(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), plenty)
	s.publish(message("topic", "123"))
	s.strike.Store(fails)
	if _, _, err := s.Publish(t.Context(), message("t", "1")); err == nil {
		t.Fatal("it was stored")
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		m := f.GetMetric()[0]
		got[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	info, err := os.Stat(file(s.dir))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{
		"gin_sse_journal_commit_seconds":       1,
		"gin_sse_journal_message_bytes_total":  float64(len("topic123")),
		"gin_sse_journal_failed_commits_total": 1,
		"gin_sse_journal_size_bytes":           float64(info.Size()),
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the metrics are %v, want %v", got, want)
	}
}
