package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"gin-sse/internal/event"
	"gin-sse/internal/testwait"
)

// restored starts a server on a copy of a file.
func restored(t *testing.T, copied string) *server {
	t.Helper()
	dir := t.TempDir()
	content, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file(dir), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, dir, plenty)
}

// Three clients come back to a copy: one has an id from before it, one has its last id, and one has an id that the original
// has given since.
func TestClientsOfTheOriginalAreToldOfAGapByACopy(t *testing.T) {
	t.Parallel()
	for name, restarts := range map[string]int{"the original went on": 0, "the original was started again, too": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, t.TempDir(), plenty)
			s.OfferCopies()
			before, at := s.publish(message("t", "1")), s.publish(message("t", "2"))
			copied := filepath.Join(t.TempDir(), "copy.db")
			if err := Backup(s.dir, copied); err != nil {
				t.Fatal(err)
			}
			s.publish(message("t", `"lost"`))
			for range restarts {
				s.restart()
			}
			after := s.publish(message("t", `"lost, too"`))
			other := restored(t, copied)
			if got := fmt.Sprint(other.read(after, "t")); got != "[gap {} 1 2]" {
				t.Errorf("before anything is published, the client of the original gets %s", got)
			}
			for _, data := range []string{"3", "4", "5"} {
				other.publish(message("t", data))
			}
			for range 2 {
				for id, want := range map[string]string{before: "[2 3 4 5]", at: "[3 4 5]", after: "[gap {} 1 2 3 4 5]"} {
					if got := fmt.Sprint(other.read(id, "t")); got != want {
						t.Errorf("after %s there is %s, want %s", id, got, want)
					}
				}
				other.restart() // the file remembers
			}
		})
	}
}

func TestTheFileRemembersTheLatest1000Holes(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), plenty)
	epoch, _, _ := strings.Cut(s.publish(message("t", "1")), "-")
	s.close()
	db, err := bolt.Open(file(s.dir), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		r, err := open(tx)
		for n := uint64(1); n <= maxHoles && err == nil; n++ {
			err = r.set(numbered(pastKind, 1000*n+2), encodeNumber(1000*n))
			r.state.last = 1000*n + 3
		}
		return errors.Join(err, r.save())
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	s.open()
	for _, want := range []string{"[gap {} 1] [gap {} 1]", "[2] [gap {} 1 2]"} {
		first, second := s.read(event.ID(epoch, 1001), "t"), s.read(event.ID(epoch, 2001), "t")
		if got := fmt.Sprint(first, " ", second); got != want {
			t.Errorf("after ids in the two oldest holes there is %s, want %s", got, want)
		}
		if len(first) == 2 {
			s.publish(message("t", "2")) // its hole is one too many
			s.restart()
		}
	}
}

func TestABackupIsRefusedWithOneLineThatSaysWhatToDo(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), plenty)
	s.publish(message("t", "1"))
	target := filepath.Join(t.TempDir(), "copy.db")
	for _, test := range []struct{ dir, path, want string }{
		{"", target, "DATA_DIR is not set"},
		{filepath.Join(s.dir, "missing"), target, "cannot be read: no such file or directory"},
		{s.dir, target, "no server answers in DATA_DIR="},
		{s.dir, file(s.dir), "is the file that the server uses: choose another one"},
	} {
		err := Backup(test.dir, test.path)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("a backup of %q to %q: %v, want %q", test.dir, test.path, err, test.want)
		}
	}
	s.OfferCopies()
	if err := Backup(s.dir, filepath.Join(s.dir, "no", "copy.db")); err == nil || !strings.Contains(err.Error(), "copy.db cannot be written: no such file or directory") {
		t.Errorf("to a folder that is not there: %v", err)
	}
	sock := filepath.Join(s.dir, "gin-sse.sock")
	if err := Backup(s.dir, sock); err == nil || !strings.Contains(err.Error(), "gin-sse.sock cannot be written: it is not a file") {
		t.Errorf("in the place of something that is not a file: %v", err)
	}
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Backup(s.dir, target); err == nil || !strings.Contains(err.Error(), "cannot be written") {
		t.Errorf("to a folder: %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(target)); err != nil || len(left) != 1 {
		t.Errorf("it has left %v, %v", left, err)
	}
}

func TestOnlyTheServersUserMayAskForABackup(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), plenty)
	s.OfferCopies()
	info, err := os.Stat(filepath.Join(s.dir, "gin-sse.sock"))
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Fatalf("the socket has the mode %v, %v", info.Mode(), err)
	}
	s.restart()
	if _, err := os.Stat(filepath.Join(s.dir, "gin-sse.sock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a server that has stopped leaves its socket: %v", err)
	}
}

// One that asks for a copy and takes nothing must keep a server neither from publishing nor from stopping.
func TestACopyThatNobodyTakesHoldsNothingUpAndEndsWithTheServer(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), plenty)
	for range 4 {
		s.publish(message("t", `"`+strings.Repeat("x", 1<<20)+`"`))
	}
	s.OfferCopies()
	dir, err := os.Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	conn, err := net.Dial("unix", socket(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err != nil { // the copy has begun
		t.Fatal(err)
	}
	for range 20 { // while the file grows to several times its size
		s.publish(message("t", `"`+strings.Repeat("x", 1<<20)+`"`))
	}
	closed := make(chan struct{})
	go func() { s.close(); close(closed) }()
	testwait.Closed(t, "the end of the server", closed)
}
