package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
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

var errLocked = errors.New("another process has it")

// Each start leaves a hole in the numbers before it gives the next one. The file may be a copy: then the numbers after the
// last one in it were given to other messages, by the server that went on with the original. A client that has got one of
// these finds itself in the hole and is told of a gap, instead of missing what now has that number. A hole is so large that
// the other server cannot have got beyond it, and of random size, in case that server has left a hole, too.
const (
	minHole   = 1 << 35           // numbers; holes have twice as many on average
	maxNumber = 1<<53 - 4*minHole // from here on there are no more holes, because JavaScript ends at 2^53; that is after 100,000 starts
)

// Open opens the journal in a directory and restores the hub from it, before the hub has subscribers. It makes the
// directory and the file if they are missing. No message will have more bytes than maxEvent. It passes to log what an
// operator should know later. Call Close when the journal is no longer needed.
//
// The error is one line that says what to do. Then nothing in the directory has changed.
func Open(dir string, maxEvent int64, events *hub.Hub, log func(format string, args ...any)) (*Journal, error) {
	j := &Journal{
		events:   events,
		maxEvent: min(maxEvent, maxProbe),
		log:      log,
		queue:    make(chan *call),
		copies:   make(chan chan<- *bolt.Tx),
		metrics:  newMetrics(),
	}
	j.update = func(do func(*bolt.Tx) error) error { return j.db.Update(do) }
	if err := j.open(dir); err != nil {
		j.release()
		return nil, err
	}
	if err := j.checkRoom(); err != nil { // so that Ready knows of a full disk before the first message
		j.fail(cause(err), 0)
	}
	j.stopping, j.stop = context.WithCancel(context.Background())
	j.running.Go(j.run)
	return j, nil
}

// release closes the file and lets go of the directory.
func (j *Journal) release() {
	j.copying.Wait()
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
		j.isNew = true
	}
	if err := j.load(); err != nil {
		return err
	}
	for _, step := range []func() error{j.settle, j.takeOver, j.shrink, j.syncDirs} {
		if err := step(); err != nil {
			return fmt.Errorf("DATA_DIR=%q cannot be written: %w; look at the disk", dir, cause(err))
		}
	}
	return nil
}

// checkRoom returns an error if the disk has no room for an event. The file may still have some.
func (j *Journal) checkRoom() error {
	path := temporary(j.dir.Name())
	err := os.WriteFile(path, make([]byte, j.maxEvent), 0o600)
	return errors.Join(err, os.Remove(path))
}

// takeOver gives a file of an earlier version the current one, from which on older programs refuse it.
func (j *Journal) takeOver() error {
	if !j.isOld {
		return nil
	}
	return j.db.Update(func(tx *bolt.Tx) error {
		r, err := open(tx)
		if err != nil {
			return err
		}
		if r.all, err = tx.CreateBucket(recordsBucket); err != nil {
			return err
		}
		r.state.count, r.state.sum = 0, 0
		if _, _, err := each(tx, r.set); err != nil {
			return err
		}
		for _, name := range oldBuckets {
			if err := tx.DeleteBucket([]byte(name)); err != nil && !errors.Is(err, berrors.ErrBucketNotFound) {
				return err
			}
		}
		return errors.Join(r.main.Put(versionKey, []byte(version)), r.save())
	})
}

func inUse(dir string) error {
	return fmt.Errorf("DATA_DIR=%q is in use by another gin-sse: stop that one, or give each a directory of its own", dir)
}

func damaged(dir string, err any) error {
	return fmt.Errorf("DATA_DIR=%q: %s is damaged, or another program's: %v; put a backup in its place, or move it away to start without its messages", dir, file(dir), err)
}

// cause returns the error without the path of a file.
func cause(err error) error {
	var path *fs.PathError
	var address *net.OpError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &address):
		return address.Err
	}
	return err
}

// load checks the file, opens it and restores the hub and the keys from it.
func (j *Journal) load() error {
	dir := j.dir.Name()
	what, advice := "read", "readable and writable"
	err := inspect(file(dir))
	if err == nil {
		what, advice = "written", "writable"
		err = j.openFile()
	}
	var path *fs.PathError
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return inUse(dir)
	case errors.As(err, &path):
		return fmt.Errorf("DATA_DIR=%q: %s cannot be %s: %w; make it %s for this user", dir, file(dir), what, path.Err, advice)
	case err != nil:
		return damaged(dir, err)
	}
	return j.db.View(func(tx *bolt.Tx) error {
		main := tx.Bucket(mainBucket)
		if main == nil {
			return damaged(dir, "it has no data of gin-sse")
		}
		found := main.Get(versionKey)
		if j.isOld = isOld(found); string(found) != version && !j.isOld {
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
	if err == nil && r.all == nil && !j.isOld {
		err = errors.New("it has no records")
	}
	if err != nil {
		return err
	}
	var (
		messages []event.Message
		uses     []idempotency.Use
		noted    = history.Changes{Last: r.state.noted, Forgotten: r.state.floor}
	)
	addMessage := func(number uint64, content, _ []byte) error {
		m, err := decodeMessage(number, content)
		messages = append(messages, m)
		if m.IsSilent() {
			j.gone = append(j.gone, number)
		}
		if number > noted.Last {
			j.fresh++
			if m.Key != "" {
				uses = append(uses, idempotency.Use{Key: m.Key, Number: number, Digest: idempotency.Sum(m), At: time.UnixMilli(m.Time)})
			}
		}
		return err
	}
	addUse := func(number uint64, content, _ []byte) error {
		u, err := decodeUse(number, content)
		uses = append(uses, u)
		return err
	}
	count, sum, err := each(tx, func(key, value []byte) error {
		switch key[0] {
		case messageKind:
			return entries(value, addMessage)
		case keyKind:
			return entries(value, addUse)
		}
		hole, past, err := decodePast(key, value)
		if hole.Last > 0 {
			j.holes = append(j.holes, hole)
		} else {
			noted.Topics = append(noted.Topics, past)
		}
		return err
	})
	switch err := cmp.Or(err, entries(r.state.messages, addMessage)); {
	case err != nil:
		return err
	case count != r.state.count || sum != r.state.sum:
		return errors.New("its records are not those that were written")
	}
	j.epoch, j.last = r.state.epoch, r.state.last
	end := j.last
	if n := len(j.holes); n > 0 {
		end = max(end, j.holes[n-1].Last) // a commit that failed may have left a hole without a message after it
	}
	if end < maxNumber && !j.isNew {
		j.hole = history.Hole{First: j.last + 1, Last: end + minHole + rand.Uint64N(2*minHole)}
		j.holes = append(j.holes, j.hole)
	}
	j.events.Restore(func(h *history.History) {
		h.Restore(j.epoch, j.last, j.holes, noted, slices.Values(messages))
	})
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
