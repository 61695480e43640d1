package journal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"gin-sse/internal/hub"
	"gin-sse/internal/idempotency"
)

const (
	lockWait = 2 * time.Second // for another process to let go of the directory: in a rolling restart, it is stopping
	roomy    = 256 << 10       // a file of this size is never too large
	growth   = 128 << 10       // bytes by which the file grows; bbolt's own 16 MB are many times what a small history needs
)

// file returns the path of the file in a directory, and temporary that of a file that is to replace it.
func file(dir string) string      { return filepath.Join(dir, "gin-sse.db") }
func temporary(dir string) string { return filepath.Join(dir, "gin-sse.db.new") }

// Open opens the journal in a directory and restores the hub from it, before the hub has subscribers. It makes the
// directory and the file if they are missing. It passes to log what an operator should know later. Call Close when the
// journal is no longer needed.
//
// The error is one line that says what to do. Then nothing in the directory has changed.
func Open(dir string, events *hub.Hub, log func(format string, args ...any)) (*Journal, error) {
	j := &Journal{
		events:  events,
		log:     log,
		queue:   make(chan *call),
		stop:    make(chan struct{}),
		done:    make(chan struct{}),
		metrics: newMetrics(),
	}
	if err := j.open(dir); err != nil {
		j.release()
		return nil, err
	}
	j.update = j.db.Update
	go j.run()
	return j, nil
}

// release closes the file and lets go of the directory.
func (j *Journal) release() {
	if j.db != nil && !j.broken { // a broken database holds its own locks forever
		_ = j.db.Close() // what was acknowledged is on the disk
	}
	if j.dir != nil {
		_ = j.dir.Close()
	}
}

func (j *Journal) open(dir string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("DATA_DIR=%q cannot be made: %w; choose a directory that this user may write", dir, err)
	}
	if j.dir, err = os.Open(dir); err != nil {
		return fmt.Errorf("DATA_DIR=%q cannot be read: %w; choose a directory that this user may write", dir, err)
	}
	if err := lock(j.dir, lockWait); errors.Is(err, errLocked) {
		return inUse(dir)
	} else if err != nil {
		return fmt.Errorf("DATA_DIR=%q cannot be locked: %w; choose a directory on a disk of this machine", dir, err)
	}
	if _, err := os.Stat(file(dir)); errors.Is(err, fs.ErrNotExist) {
		if err := j.create(); err != nil {
			return fmt.Errorf("DATA_DIR=%q cannot be written: %w; choose a directory with room that this user may write", dir, cause(err))
		}
	}
	if err := j.load(); err != nil {
		return err
	}
	if err := os.Remove(temporary(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("DATA_DIR=%q cannot be written: %w; choose a directory that this user may write", dir, err)
	}
	return j.shrink()
}

func inUse(dir string) error {
	return fmt.Errorf("DATA_DIR=%q is in use by another gin-sse: stop that one, or give each a directory of its own", dir)
}

func damaged(dir string, err any) error {
	return fmt.Errorf("DATA_DIR=%q: %s is damaged, or another program's: %v; put a copy in its place, or move it away to start without it", dir, file(dir), err)
}

// cause returns the error without the path of a file.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// create makes an empty file. A crash leaves no file or a whole one.
func (j *Journal) create() error {
	dir := j.dir.Name()
	if err := os.Remove(temporary(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bolt.Open(temporary(dir), 0o600, options())
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{mainBucket, messagesBucket, keysBucket, historiesBucket} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		if err := tx.Bucket(mainBucket).Put(versionKey, []byte(version)); err != nil {
			return err
		}
		r := &records{tx: tx, state: state{epoch: strings.ToLower(rand.Text()[:8])}}
		return r.save()
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary(dir)))
	}
	return j.replace()
}

// replace puts the temporary file in the place of the file, and makes sure that this outlives a loss of power.
func (j *Journal) replace() error {
	dir := j.dir.Name()
	if err := os.Rename(temporary(dir), file(dir)); err != nil {
		return err
	}
	if err := j.dir.Sync(); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(filepath.Clean(dir))) // the directory itself may be new
	if err != nil {
		return nil // it is not ours to read, so it was there before
	}
	defer parent.Close()
	return parent.Sync()
}

func options() *bolt.Options {
	return &bolt.Options{Timeout: lockWait, FreelistType: bolt.FreelistMapType, NoStatistics: true}
}

// load opens the file, checks it and restores the hub and the keys from it.
func (j *Journal) load() (err error) {
	dir := j.dir.Name()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // the file is mapped into memory, and may be on a bad disk
	defer func() {
		if p := recover(); p != nil {
			j.broken = true
			err = damaged(dir, p)
		}
	}()
	if err := inspect(file(dir)); err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			return fmt.Errorf("DATA_DIR=%q: %s cannot be read: %w; make it readable and writable for this user", dir, file(dir), path.Err)
		}
		return damaged(dir, err)
	}
	j.db, err = bolt.Open(file(dir), 0o600, options())
	var path *fs.PathError
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return inUse(dir)
	case errors.As(err, &path):
		return fmt.Errorf("DATA_DIR=%q: %s cannot be written: %w; make it writable for this user", dir, file(dir), path.Err)
	case err != nil:
		return damaged(dir, err)
	}
	j.db.AllocSize = growth
	return j.db.View(func(tx *bolt.Tx) error {
		if main := tx.Bucket(mainBucket); main == nil {
			return damaged(dir, "it has no data of gin-sse")
		} else if found := main.Get(versionKey); string(found) != version {
			return fmt.Errorf("DATA_DIR=%q: %s has the format %.20q, and this gin-sse knows %q: start the newer version of gin-sse that wrote it, or move the file away to start without it", dir, file(dir), found, version)
		}
		if err := j.restore(tx); err != nil {
			return damaged(dir, err)
		}
		return nil
	})
}

// restore checks all records and hands them to the hub.
func (j *Journal) restore(tx *bolt.Tx) error {
	r, err := open(tx)
	if err != nil {
		return err
	}
	var (
		count, sum uint64
		messages   []hub.Message
		uses       []idempotency.Use
		noted      = hub.Changes{Last: r.state.noted, Floor: r.state.floor}
	)
	each := func(name []byte, decode func(key, value []byte) error) {
		if err != nil {
			return
		}
		err = tx.Bucket(name).ForEach(func(key, value []byte) error {
			count++
			sum += r.hash(name, key, value)
			return decode(key, value)
		})
	}
	each(messagesBucket, func(key, value []byte) error {
		m, err := decodeMessage(key, value)
		messages = append(messages, m)
		return err
	})
	each(keysBucket, func(key, value []byte) error {
		u, err := decodeUse(key, value)
		uses = append(uses, u)
		return err
	})
	each(historiesBucket, func(key, value []byte) error {
		t, err := decodeHistory(key, value)
		noted.Histories = append(noted.Histories, t)
		return err
	})
	switch {
	case err != nil:
		return err
	case count != r.state.count || sum != r.state.sum:
		return errors.New("its records are not those that were written")
	}
	err = j.events.Restore(r.state.epoch, r.state.last, noted, func(yield func(hub.Message) bool) {
		for _, m := range messages {
			if !yield(m) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	j.last = r.state.last
	j.changes = j.events.Changes()
	for _, m := range messages {
		if m.End && len(m.Data) == 0 {
			j.changes.Dropped = append(j.changes.Dropped, m.Number)
		}
	}
	j.keys = idempotency.New()
	now := time.Now()
	for _, u := range uses {
		if u.At.After(now) {
			u.At = now // the clock was set back
		}
		j.keys.Add(u)
	}
	return nil
}

// shrink replaces a file that has grown far beyond what it keeps by a copy without free pages. If there is no room for
// the copy, the file stays as it is.
func (j *Journal) shrink() error {
	dir := j.dir.Name()
	if j.Size() <= roomy {
		return nil
	}
	// HISTORY may be smaller than before the restart. Without room to note that, the next transaction does.
	_ = j.db.Update(func(tx *bolt.Tx) error { return j.write(tx, batch{last: j.last}, 0) })
	if kept := j.kept(); j.Size() <= 3*kept {
		return nil
	}
	copied, err := bolt.Open(temporary(dir), 0o600, options())
	if err == nil {
		err = bolt.Compact(copied, j.db, 16<<20)
		err = errors.Join(err, copied.Close())
	}
	if err != nil {
		_ = os.Remove(temporary(dir))
		j.log("the file in DATA_DIR stays larger than it has to be: %v", cause(err))
		return nil
	}
	if err := j.db.Close(); err != nil {
		return fmt.Errorf("DATA_DIR=%q: close the file: %w", dir, err)
	}
	j.db = nil
	if err := j.replace(); err != nil {
		return fmt.Errorf("DATA_DIR=%q cannot be written: %w; choose a directory that this user may write", dir, cause(err))
	}
	if j.db, err = bolt.Open(file(dir), 0o600, options()); err != nil {
		return fmt.Errorf("DATA_DIR=%q: open %s again: %w", dir, file(dir), err)
	}
	j.db.AllocSize = growth
	return nil
}

// kept returns how many bytes the records have.
func (j *Journal) kept() (size int64) {
	_ = j.db.View(func(tx *bolt.Tx) error { // reading what was read before does not fail
		for _, name := range [][]byte{messagesBucket, keysBucket, historiesBucket} {
			_ = tx.Bucket(name).ForEach(func(key, value []byte) error {
				size += int64(len(key) + len(value))
				return nil
			})
		}
		return nil
	})
	return size
}
