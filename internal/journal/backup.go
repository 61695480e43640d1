package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// stall is how long the other end of a copy may do nothing. While a copy is made, the file grows: pages that the copy
// needs cannot be used again.
const stall = 10 * time.Second

// socket returns the path at which a server sends copies of its file. It leads
// through the open directory where the system allows that, because the path of a socket must be short.
func socket(dir *os.File) string {
	short := fmt.Sprintf("/proc/self/fd/%d", dir.Fd())
	if _, err := os.Stat(short); err != nil {
		short = dir.Name()
	}
	return filepath.Join(short, "gin-sse.sock")
}

// OfferCopies makes copies for those that ask for one with Backup, one after the other, until Close. Where there can be no
// socket, the server does without.
func (j *Journal) OfferCopies() {
	path := socket(j.dir)
	_ = os.Remove(path) // of a server that was killed; this one has the directory's lock
	own := func(_, _ string, c syscall.RawConn) error {
		return c.Control(restrict) // only this user, from the first moment
	}
	listener, err := (&net.ListenConfig{Control: own}).Listen(j.stopping, "unix", path)
	if err == nil {
		err = os.Chmod(path, 0o600) // where the line above has no effect
	}
	if err != nil {
		j.log("there is no socket in DATA_DIR, so gin-sse backup cannot be used: %v", cause(err))
		return
	}
	context.AfterFunc(j.stopping, func() { _ = listener.Close() })
	j.copying.Go(func() {
		defer listener.Close() // it removes the socket, which must be gone before another server has the directory
		for j.stopping.Err() == nil {
			conn, err := listener.Accept()
			if err == nil {
				err = j.copyTo(conn)
			}
			if err != nil && j.stopping.Err() == nil {
				j.log("a backup has failed: %v", err)
				select { // at the limit of open files, the next one would fail at once
				case <-time.After(probeWait):
				case <-j.stopping.Done():
				}
			}
		}
	})
}

// copyTo sends a copy of the file, which is consistent while the server goes on.
func (j *Journal) copyTo(conn net.Conn) error {
	defer conn.Close()
	defer context.AfterFunc(j.stopping, func() { _ = conn.Close() })()
	reader := make(chan *bolt.Tx, 1)
	select {
	case j.copies <- reader:
	case <-j.stopping.Done():
		return nil
	}
	tx := <-reader
	if tx == nil {
		return errors.New("the file cannot be read")
	}
	defer tx.Rollback()
	_, err := tx.WriteTo(patient{conn})
	return err
}

// read begins a transaction that reads, or returns nil.
func (j *Journal) read() (tx *bolt.Tx) {
	_ = j.guard(func() (err error) {
		if j.db != nil && !j.broken {
			tx, err = j.db.Begin(false)
		}
		return err
	})
	return tx
}

// patient is a connection whose other end may not do nothing for too long.
type patient struct{ net.Conn }

func (p patient) Write(b []byte) (int, error) {
	_ = p.SetDeadline(time.Now().Add(stall)) // it fails if the connection is closed, and then so does Write
	return p.Conn.Write(b)
}

func (p patient) Read(b []byte) (int, error) {
	_ = p.SetDeadline(time.Now().Add(stall))
	return p.Conn.Read(b)
}

// Backup asks the server that keeps its messages in a directory for a copy, and puts it at a path. The file there is
// replaced only by a whole copy. A signal to end the process ends it and leaves nothing. The error is one line that says
// what to do.
func Backup(dir, path string) (err error) {
	if dir == "" {
		return errors.New("DATA_DIR is not set: a backup is a copy of the messages that the server keeps there")
	}
	if there, err := os.Stat(path); err == nil {
		if used, err := os.Stat(file(dir)); err == nil && os.SameFile(there, used) {
			return fmt.Errorf("%s is the file that the server uses: choose another one", path)
		}
		if !there.Mode().IsRegular() { // to put a file in the place of a device would break the machine
			return fmt.Errorf("%s cannot be written: it is not a file", path)
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("DATA_DIR=%q cannot be read: %w", dir, cause(err))
	}
	defer d.Close()
	conn, err := net.Dial("unix", socket(d))
	if err != nil {
		return fmt.Errorf("no server answers in DATA_DIR=%q: %w; if none is running, copy %s itself", dir, cause(err), file(dir))
	}
	defer conn.Close()
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(interrupted, func() { _ = conn.Close() })
	copied, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".unfinished-*")
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", path, cause(err))
	}
	defer func() {
		if copied.Close(); err != nil {
			_ = os.Remove(copied.Name())
		}
	}()
	_, err = io.Copy(copied, patient{conn})
	switch {
	case interrupted.Err() != nil:
		return errors.New("the backup was interrupted")
	case err != nil:
		return fmt.Errorf("the backup is not whole: %w", cause(err))
	}
	if err := inspect(copied.Name()); err != nil {
		return fmt.Errorf("the backup cannot be used: %w; the log of the server may say why", cause(err))
	}
	if err = copied.Sync(); err == nil {
		err = os.Rename(copied.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", path, cause(err))
	}
	return nil
}
