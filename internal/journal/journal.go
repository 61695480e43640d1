// Package journal is the log of a server that works alone and loses nothing in a restart: it keeps messages in a file
// before it acknowledges them. The file is a database of go.etcd.io/bbolt.
package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	bolt "go.etcd.io/bbolt"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
	"gin-sse/internal/hub"
	"gin-sse/internal/idempotency"
)

const (
	maxBatch      = 128     // messages after which a transaction takes no more calls; a call has at most as many
	maxBatchBytes = 1 << 20 // bytes of messages after which it takes no more calls

	noteAfter = 500 // messages after which a transaction makes a note; or maxBatchBytes

	maxProbe  = 16 << 20        // bytes of a message that a probe need not go beyond
	probeWait = time.Second     // between two attempts to write while the disk fails
	slow      = 5 * time.Second // after which a publisher need not wait any longer
)

var errSlow = errors.New("the disk did not store it in time")

// Journal keeps messages on disk and hands them to a hub. Its methods may be called from any number of goroutines.
type Journal struct {
	events   *hub.Hub
	maxEvent int64 // bytes of a message, or maxProbe
	log      func(format string, args ...any)
	queue    chan *call
	copies   chan chan<- *bolt.Tx // each asks for a transaction that reads the file, to copy it
	stopping context.Context      // ended by Close
	stop     context.CancelFunc
	running  sync.WaitGroup
	copying  sync.WaitGroup // those that need the directory until they end
	metrics  metrics

	// These belong to the goroutine run, once there is one.
	dir      *os.File    // locked
	db       *bolt.DB    // nil if it could not be opened again
	opened   os.FileInfo // of the file of db, when it was last looked at
	pageSize int         // of db
	isNew    bool        // the file was made by this start
	isOld    bool        // an earlier version of gin-sse wrote it
	last     uint64      // number of the last message that was acknowledged
	epoch    string
	hole     history.Hole   // to be left before the next message; zero if there is none
	holes    []history.Hole // that the file remembers, and this one
	keys     *idempotency.Keys
	fresh    int                              // messages since the last note
	bytes    int                              // of these
	gone     []uint64                         // numbers of messages that the next note removes, beside those that the hub drops
	changes  *history.Changes                 // for the note under way or, if that failed, for the next one
	failed   int                              // bytes that could not be written
	broken   bool                             // no transaction can be begun any more
	update   func(func(*bolt.Tx) error) error // runs a transaction; tests let it fail
	closed   bool                             // the hub is

	mu      sync.Mutex
	problem error     // why nothing can be stored, or nil
	since   time.Time // when the transaction under way was begun, or zero
}

// call is a call of Publish that waits for its answer.
type call struct {
	messages []event.Message
	digests  []idempotency.Digest // of those that have a key
	answer   chan struct{}        // closed when the rest is set
	kept     int
	last     uint64 // number of the last one
	end      int    // of its messages in the batch
	err      error
}

// Publish is that of event.Log. It returns when the messages are on the disk and with the hub. If ctx ends first, or the
// disk takes longer than 5 s, they may be stored all the same. A key is forgotten once 100,000 others were used.
func (j *Journal) Publish(ctx context.Context, messages ...event.Message) (kept int, id string, err error) {
	for some := range slices.Chunk(messages, maxBatch) { // a large transaction makes a large file
		n, last, err := j.publish(ctx, some)
		if kept += n; n > 0 {
			id = last
		}
		if err != nil {
			return kept, id, err
		}
	}
	return kept, id, nil
}

func (j *Journal) publish(ctx context.Context, messages []event.Message) (kept int, id string, err error) {
	c := &call{messages: messages, answer: make(chan struct{})}
	for i, m := range messages {
		if m.Key != "" {
			if c.digests == nil {
				c.digests = make([]idempotency.Digest, len(messages))
			}
			c.digests[i] = idempotency.Sum(m)
		}
	}
	timeout := time.NewTimer(slow)
	defer timeout.Stop()
	select {
	case j.queue <- c:
	case <-j.stopping.Done():
		return 0, "", event.ErrClosed
	case <-ctx.Done():
		return 0, "", context.Cause(ctx)
	case <-timeout.C:
		return 0, "", errSlow
	}
	select {
	case <-c.answer:
		if c.kept > 0 {
			id = event.ID(j.epoch, c.last)
		}
		return c.kept, id, c.err
	case <-ctx.Done():
		return 0, "", context.Cause(ctx)
	case <-timeout.C:
		return 0, "", errSlow
	}
}

// Ready returns nil while messages can be stored, and otherwise why they cannot.
func (j *Journal) Ready() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.problem == nil && !j.since.IsZero() && time.Since(j.since) > slow {
		return fmt.Errorf("the disk has not answered for %v", time.Since(j.since).Truncate(time.Second))
	}
	return j.problem
}

// Close stores what waits, ends the journal and waits for its end. Publish then returns event.ErrClosed.
func (j *Journal) Close() {
	j.stop()
	j.running.Wait()
}

// run stores what the calls of Publish bring, until Close. While one transaction is written, the next calls gather.
func (j *Journal) run() {
	defer j.release()
	debug.SetPanicOnFault(true) // the file is mapped into memory: a disk that cannot be read must not end the process
	probe := time.NewTicker(probeWait)
	defer probe.Stop()
	for {
		select {
		case c := <-j.queue:
			j.serve(j.gather(c))
		case reader := <-j.copies:
			reader <- j.read()
		case <-probe.C:
			if j.failed > 0 && !j.broken {
				j.probe()
			}
		case <-j.stopping.Done():
			if j.failed == 0 {
				_ = j.commit(batch{last: j.last, note: true}) // saves the next start some work
			}
			return
		}
	}
}

// gather returns the call and those that wait with it, up to the bounds of a transaction.
func (j *Journal) gather(c *call) (calls []*call) {
	for messages, size := 0, 0; c != nil; {
		calls = append(calls, c)
		messages += len(c.messages)
		for _, m := range c.messages {
			size += len(m.Data)
		}
		if messages >= maxBatch || size >= maxBatchBytes {
			break
		}
		c = j.next()
	}
	return calls
}

// next returns a call that waits, or nil. It looks several times, so that publishers that have just got their answers come
// again with this transaction.
func (j *Journal) next() *call {
	for range 4 {
		select {
		case c := <-j.queue:
			return c
		default:
			runtime.Gosched()
		}
	}
	return nil
}

// serve stores the messages of these calls in one transaction, hands them to the hub and answers the calls.
func (j *Journal) serve(calls []*call) {
	b := batch{last: max(j.last, j.hole.Last), messages: make([]event.Message, 0, len(calls))}
	now := time.Now()
	j.keys.Forget(now)
	for _, c := range calls {
		for i := range c.messages {
			var number uint64
			if number, c.err = j.take(&b, c, i, now); c.err != nil {
				break
			}
			c.kept, c.last = c.kept+1, number
		}
		c.end = len(b.messages)
	}
	var err error
	if len(b.messages) > 0 {
		err = j.store(b)
	}
	sent := 0
	for _, c := range calls {
		if err != nil {
			c.kept, c.err = 0, err
		}
		for ; err == nil && sent < c.end; sent++ {
			j.closed = j.events.Append(b.messages[sent]) != nil // it is acknowledged, and subscribers get it after the restart
		}
		close(c.answer)
	}
}

// take adds a message of a call to the batch and returns its number. If its key was used before, it returns the number of
// then.
func (j *Journal) take(b *batch, c *call, i int, now time.Time) (uint64, error) {
	m := c.messages[i]
	if m.Key != "" {
		if number, err := j.keys.Find(m.Key, c.digests[i]); err != nil || number > 0 {
			return number, err
		}
	}
	switch {
	case j.closed:
		return 0, event.ErrClosed
	case (b.ended[m.Topic] || j.events.Ended(m.Topic)) && !m.Erases():
		return 0, event.ErrEnded
	}
	b.last++
	m.Number, m.Time = b.last, now.UnixMilli()
	if m.Key != "" {
		j.keys.Add(idempotency.Use{Key: m.Key, Number: m.Number, Digest: c.digests[i], At: now})
	}
	if m.End {
		if b.ended == nil {
			b.ended = map[string]bool{}
		}
		b.ended[m.Topic] = true
	}
	b.messages = append(b.messages, m)
	b.bytes += len(m.Topic) + len(m.Name) + len(m.Data) + len(m.Key)
	return m.Number, nil
}

// store writes a batch to the disk. If it cannot be written, nothing has happened.
func (j *Journal) store(b batch) error {
	err := j.Ready()
	if err == nil {
		b.note = j.fresh >= noteAfter || j.bytes >= maxBatchBytes
		err = j.commit(b)
		for _, m := range b.messages {
			if err != nil || m.IsSilent() { // it may be in the file all the same; or only its end is to be known
				j.gone = append(j.gone, m.Number)
			}
		}
	}
	if err != nil {
		j.keys.Undo(j.last)
		j.fail(err, b.bytes)
		return err
	}
	j.last, j.hole = b.last, history.Hole{}
	j.fresh, j.bytes = j.fresh+len(b.messages), j.bytes+b.bytes
	return nil
}

// fail says that nothing can be stored until a probe finds room for so many bytes, or for an event.
func (j *Journal) fail(err error, bytes int) {
	j.failed = max(j.failed, bytes, int(j.maxEvent))
	j.tell(err)
}

// probe finds out whether what failed can be stored by now, and as much again, because records take more than their
// messages. It leaves that much room in the file.
func (j *Journal) probe() {
	err := j.guard(j.reopen)
	for _, size := range []int{0, 2 * j.failed, 0} {
		if err == nil {
			err = j.commit(batch{last: j.last, note: true, probe: size})
		}
	}
	if err == nil {
		j.failed = 0
	}
	j.tell(err)
}

// commit writes a batch.
func (j *Journal) commit(b batch) error {
	begin := time.Now()
	j.mu.Lock()
	j.since = begin
	j.mu.Unlock()
	hangs := time.AfterFunc(slow, func() {
		j.log("the disk of DATA_DIR has not answered for %v; POST /sse answers 503 until it does", slow)
	})
	defer hangs.Stop()
	err := j.guard(func() error {
		if err := j.present(); err != nil {
			return err
		}
		return j.update(func(tx *bolt.Tx) error { return j.write(tx, b) })
	})
	if err == nil && b.note {
		j.changes, j.gone, j.fresh, j.bytes = nil, nil, 0, 0
	}
	j.mu.Lock()
	j.since = time.Time{}
	j.mu.Unlock()
	j.metrics.commit(time.Since(begin), b.bytes, err)
	return err
}

// guard returns what do returns, without the path of the file: publishers see it. A panic of the database is an error,
// too.
func (j *Journal) guard(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			j.broken = true
			err = fmt.Errorf("the database in DATA_DIR failed, and the server must be started again: %v; if that start is refused, put a backup in the place of gin-sse.db", p)
		}
	}()
	err = cause(do())
	if path := file(j.dir.Name()); err != nil && strings.Contains(err.Error(), path) { // bbolt has made text of it
		err = errors.New(strings.ReplaceAll(err.Error(), path, "gin-sse.db"))
	}
	return err
}

// tell sets why nothing can be stored, and logs when that begins and ends.
func (j *Journal) tell(err error) {
	j.mu.Lock()
	before := j.problem
	j.problem = err
	j.mu.Unlock()
	switch {
	case before == nil && err != nil:
		j.log("messages cannot be stored in DATA_DIR: %v; POST /sse answers 503 until they can", err)
	case before != nil && err == nil:
		j.log("messages can be stored in DATA_DIR again")
	}
}

// Size returns how many bytes the file has.
func (j *Journal) Size() int64 {
	info, err := os.Stat(file(j.dir.Name()))
	if err != nil {
		return 0
	}
	return info.Size()
}

// Collectors returns the figures for Prometheus.
func (j *Journal) Collectors() []prometheus.Collector { return j.metrics.collectors(j.Size) }
