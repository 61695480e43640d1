package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
	"gin-sse/internal/hub"
	"gin-sse/internal/idempotency"
)

// lockWait is how long a start waits for another process to let go of the directory: in a rolling restart, that one is
// stopping.
const lockWait = 2 * time.Second

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
	j.update = func(do func(*bolt.Tx) error) error { return j.db.Update(do) }
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
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // the file is mapped into memory, and may be on a bad disk
	defer func() {
		if p := recover(); p != nil {
			j.broken = true
			err = damaged(dir, p)
		}
	}()
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
	if err := j.settle(); err != nil {
		return fmt.Errorf("DATA_DIR=%q cannot be written: %w; look at the disk", dir, cause(err))
	}
	if err := os.Remove(temporary(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("DATA_DIR=%q cannot be written: %w; choose a directory that this user may write", dir, cause(err))
	}
	if err := j.takeOver(); err != nil {
		return fmt.Errorf("DATA_DIR=%q cannot be written: %w; look at the disk", dir, cause(err))
	}
	if err := j.shrink(); err != nil {
		return err
	}
	if err := j.syncDirs(); err != nil { // also after a start that was killed before it came here
		return fmt.Errorf("DATA_DIR=%q cannot be written: %w; look at the disk", dir, cause(err))
	}
	return nil
}

// takeOver gives a file of an earlier version the current one, from which on older programs refuse it.
func (j *Journal) takeOver() error {
	old := false
	err := j.db.View(func(tx *bolt.Tx) error {
		old = string(tx.Bucket(mainBucket).Get(versionKey)) != version
		return nil
	})
	if err != nil || !old {
		return err
	}
	return j.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(mainBucket).Put(versionKey, []byte(version)) })
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

// load checks the file, opens it and restores the hub and the keys from it.
func (j *Journal) load() error {
	dir := j.dir.Name()
	if err := inspect(file(dir)); err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			return fmt.Errorf("DATA_DIR=%q: %s cannot be read: %w; make it readable and writable for this user", dir, file(dir), path.Err)
		}
		return damaged(dir, err)
	}
	err := j.openFile()
	var path *fs.PathError
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return inUse(dir)
	case errors.As(err, &path):
		return fmt.Errorf("DATA_DIR=%q: %s cannot be written: %w; make it writable for this user", dir, file(dir), path.Err)
	case err != nil:
		return damaged(dir, err)
	}
	return j.db.View(func(tx *bolt.Tx) error {
		if main := tx.Bucket(mainBucket); main == nil {
			return damaged(dir, "it has no data of gin-sse")
		} else if found := main.Get(versionKey); string(found) != version && string(found) != version1 {
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
		messages   []event.Message
		uses       []idempotency.Use
		noted      = history.Changes{Last: r.state.noted, Forgotten: r.state.floor}
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
		noted.Topics = append(noted.Topics, t)
		return err
	})
	switch {
	case err != nil:
		return err
	case count != r.state.count || sum != r.state.sum:
		return errors.New("its records are not those that were written")
	}
	j.events.Restore(func(h *history.History) {
		h.Restore(r.state.epoch, r.state.last, noted, slices.Values(messages))
	})
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
