package journal

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	bolt "go.etcd.io/bbolt"

	"gin-sse/internal/hub"
	"gin-sse/internal/testfiles"
)

func TestADirectoryThatIsMissingIsMade(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "there yet", "ä")
	s := start(t, dir, plenty)
	s.publish(message("t", "1"))
	s.restart()
	if got := s.read("earliest", "t"); len(got) != 1 {
		t.Errorf("after a restart there is %q", got)
	}
}

func TestAGroupThatMayWriteTheDirectoryMayWriteTheFile(t *testing.T) {
	t.Parallel()
	for dirMode, want := range map[fs.FileMode]fs.FileMode{0o700: 0o600, 0o755: 0o600, 0o770: 0o660, 0o775: 0o660} {
		dir := t.TempDir()
		if err := os.Chmod(dir, dirMode); err != nil {
			t.Fatal(err)
		}
		start(t, dir, plenty)
		info, err := os.Stat(file(dir))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode(); got != want {
			t.Errorf("in a directory with %v the file has %v, want %v", dirMode, got, want)
		}
	}
}

func TestAStartThatIsRefusedSaysWhatToDoAndChangesNothing(t *testing.T) {
	t.Parallel()
	write := func(content string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(file(dir), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	// database makes a database of bbolt, with one bucket that has one record.
	database := func(t *testing.T, dir, bucket, key, value string, options *bolt.Options) *bolt.DB {
		db, err := bolt.Open(file(dir), 0o600, options)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(bucket))
			if err != nil {
				return err
			}
			return b.Put([]byte(key), []byte(value))
		})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	for name, test := range map[string]struct {
		prepare func(t *testing.T, dir string)
		path    string // below the directory
		want    string
	}{
		"the directory is a file":             {write("x"), "gin-sse.db", "cannot be made: mkdir "},
		"the directory would be below a file": {write("x"), "gin-sse.db/below", "cannot be made: mkdir "},
		"an empty file":                       {write(""), "", "it is not whole; put a backup"},
		"a short text":                        {write("hello"), "", "it is not whole; put a backup"},
		"a long text":                         {write(strings.Repeat("hello\n", 10_000)), "", "its beginning is none that gin-sse writes; put a backup"},
		"another program's database":          {func(t *testing.T, dir string) { database(t, dir, "other", "key", "value", nil).Close() }, "", "it has no data of gin-sse; put a backup"},
		"another program's database, without the list of free pages": {func(t *testing.T, dir string) {
			database(t, dir, "other", "key", "value", &bolt.Options{NoFreelistSync: true}).Close()
		}, "", "its pages do not fit together; put a backup"},
		"a file of a newer version": {func(t *testing.T, dir string) {
			start(t, dir, plenty).close()
			database(t, dir, "gin-sse", "version", "5", nil).Close()
		}, "", `has the format "5", and this gin-sse knows "4": start the newer version`},
		"a file whose records were changed": {func(t *testing.T, dir string) {
			s := start(t, dir, plenty)
			s.publish(message("t", "1"))
			s.close()
			database(t, dir, "records", string(numbered(messageKind, 2)), "\x02\x04\x00\x00\x002", nil).Close()
		}, "", "its records are not those that were written; put a backup"},
		"a file without a bucket": {func(t *testing.T, dir string) {
			start(t, dir, plenty).close()
			db := database(t, dir, "gin-sse", "version", "4", nil)
			if err := db.Update(func(tx *bolt.Tx) error { return tx.DeleteBucket(recordsBucket) }); err != nil {
				t.Error(err)
			}
			db.Close()
		}, "", "it has no records; put a backup"},
		"a directory in the place of the file": {func(t *testing.T, dir string) {
			if err := os.Mkdir(file(dir), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "", "cannot be read: is a directory; make it readable"},
		"another gin-sse": {func(t *testing.T, dir string) { start(t, dir, plenty) }, "", "is in use by another gin-sse: stop that one"},
		"another program that has the file open": {func(t *testing.T, dir string) {
			start(t, dir, plenty).close()
			db := database(t, dir, "gin-sse", "version", "1", nil)
			t.Cleanup(func() { db.Close() })
		}, "", "is in use by another gin-sse: stop that one"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			synctest.Test(t, func(t *testing.T) { // a start waits two seconds for another process
				test.prepare(t, root)
				before := testfiles.Snapshot(t, root)
				dir := filepath.Join(root, test.path)
				events := hub.New(plenty)
				defer events.Close()
				_, err := Open(dir, maxEvent, events, t.Logf)
				if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("DATA_DIR=%q", dir)) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("the error is %v, want %q", err, test.want)
				}
				if after := testfiles.Snapshot(t, root); after != before {
					t.Errorf("after the start there is\n%s, and before there was\n%s", after, before)
				}
			})
		})
	}
}

func TestAStartWaitsForAServerThatIsStopping(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := start(t, dir, plenty)
		s.publish(message("t", "1"))
		opened := make(chan *server)
		go func() { opened <- start(t, dir, plenty) }()
		synctest.Wait() // for the lock
		s.close()
		next := <-opened
		defer next.close()
		if got := next.read("earliest", "t"); len(got) != 1 {
			t.Errorf("there is %q", got)
		}
	})
}

// A start that was killed leaves a file that it had not finished.
func TestAStartAfterOneThatWasCutOffBeginsAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir, plenty)
	s.publish(message("t", "1"))
	s.close()
	half, err := os.ReadFile(file(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, missing := range []bool{false, true} {
		if err := os.WriteFile(temporary(dir), half[:len(half)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		if missing {
			if err := os.Remove(file(dir)); err != nil {
				t.Fatal(err)
			}
		}
		s.open()
		if got := s.read("earliest", "t"); len(got) == 1 == missing {
			t.Errorf("with the file missing %t there is %q", missing, got)
		}
		s.close()
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("%v, and the directory has %v", err, entries)
		}
	}
}
