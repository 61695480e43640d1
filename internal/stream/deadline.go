package stream

import (
	"context"
	"net/http"
	"sync"
	"time"
)

const (
	// writeTimeout is how long a client has to take piece bytes before it is cut off. Extend may give it a third more.
	writeTimeout = 10 * time.Second
	piece        = 64 << 10
)

// Deadline cuts off a client that reads too slowly, or not at all. It belongs to the goroutine that writes.
type Deadline struct {
	Conn interface{ SetWriteDeadline(time.Time) error } // such as a net.Conn or an http.ResponseController
	at   time.Time
}

// Write writes p in pieces, with a deadline for each.
func (d *Deadline) Write(p []byte, write func(p []byte) (int, error)) (n int, err error) {
	for n < len(p) && err == nil {
		if err = d.Extend(); err == nil {
			var written int
			written, err = write(p[n:min(len(p), n+piece)])
			n += written
		}
	}
	return n, err
}

// Extend makes sure that the next write has its time. It leaves a deadline that is far enough away as it is,
// because setting one for every write would be a tenth of what an event costs.
func (d *Deadline) Extend() error {
	now := time.Now()
	if d.at.Sub(now) >= writeTimeout {
		return nil
	}
	d.at = now.Add(writeTimeout * 4 / 3)
	set := make(chan error)
	go func() { set <- d.Conn.SetWriteDeadline(d.at) }() // here it would double the stack of each waiting client, for good
	return <-set
}

// clear removes the deadline, so that the stream may be silent for any time. On HTTP/2 a deadline that passes
// ends the stream even if nothing is being written.
func (d *Deadline) clear() {
	d.at = time.Time{}
	_ = d.Conn.SetWriteDeadline(d.at) // the next write reports a connection that is gone
}

// alarm is the Conn of a Deadline on HTTP/2, with a timer of its own. To set and to clear net/http's deadline for each
// event would double what the event costs, because either is a message to the goroutine of the connection.
type alarm struct {
	timer *time.Timer
	mu    sync.Mutex
	over  bool // the stream must not be used any more
}

// newAlarm returns an alarm that is set for the head of the answer. When it rings, it ends the context, and resets the
// stream, which ends the write that is stuck.
func newAlarm(stream *http.ResponseController, cancel context.CancelCauseFunc) *alarm {
	a := &alarm{}
	a.timer = time.AfterFunc(writeTimeout, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if !a.over {
			cancel(errSlow)
			_ = stream.SetWriteDeadline(time.Now()) // an error changes nothing: the stream is over
		}
	})
	return a
}

// SetWriteDeadline sets the alarm, or turns it off if at is zero.
func (a *alarm) SetWriteDeadline(at time.Time) error {
	if at.IsZero() {
		a.timer.Stop()
	} else {
		a.timer.Reset(time.Until(at))
	}
	return nil
}

// end turns the alarm off for good.
func (a *alarm) end() {
	a.timer.Stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
}
