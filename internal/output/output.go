// Package output writes a log to standard output or standard error without making a request wait for it.
//
// A write to a pipe that nobody reads blocks for good, and every request that logs would block with it. A
// Writer accepts each line at once instead, and drops and counts the lines that do not fit.
package output

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// limit is how many bytes may wait: about 2,000 lines. As many again may be in the write that is under way.
	limit = 256 << 10

	// pipeBuf is the largest write that a pipe on Linux takes whole or not at all (PIPE_BUF). Up to that size,
	// lines of standard output and standard error do not mix on a shared pipe, and a process that ends does not
	// leave half a line.
	pipeBuf = 4 << 10

	// gather is how long lines wait for others after a write: one for each line would cost as much as the request that the
	// line is about. A line after a pause goes out at once.
	gather = 10 * time.Millisecond

	// pause is how long a Writer waits before it tries again after an error.
	pause = 100 * time.Millisecond
)

// Writer is an io.Writer for a log. Any number of goroutines may use it.
type Writer struct {
	to      io.Writer
	format  string
	more    chan struct{} // holds a token if something may be waiting
	closing chan struct{} // closed by Close
	done    chan struct{} // closed when run has returned

	mu      sync.Mutex
	waiting []byte
	dropped int // since waiting was last taken
}

// New returns a Writer in front of to, for lines in a format that [Handler] knows. It writes on a goroutine of its own, which Close ends.
//
// If to is os.Stdout or os.Stderr, call signal.Ignore(syscall.SIGPIPE) first. Otherwise the program ends at the
// first write after the reader of that pipe has gone.
func New(to io.Writer, format string) *Writer {
	w := &Writer{to: to, format: format, more: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{})}
	go w.run()
	return w
}

// Write accepts p, which is one or more whole lines, and returns at once, always with len(p) and no error. If p
// does not fit, all of it is dropped and counts as one line. The log says how many lines were dropped as soon as
// there is room. A failed write is tried again until Close, from where it failed, so nothing is written twice.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	if len(w.waiting)+len(p) <= limit {
		w.waiting = append(w.waiting, p...)
	} else {
		w.dropped++
	}
	w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

// Close waits until everything is written or a write fails. If ctx ends first it returns an error, and the
// goroutine ends as soon as the write that blocks it returns. Call Close once; lines that are written after it
// are lost.
func (w *Writer) Close(ctx context.Context) error {
	close(w.closing)
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("write the rest of the log: %w", context.Cause(ctx))
	}
}

func (w *Writer) run() {
	defer close(w.done)
	var lines []byte
	for open := true; open; {
		select {
		case <-w.more:
		case <-w.closing:
			open = false
		}
		lines = w.take(lines)
		w.send(lines)
		select {
		case <-time.After(gather):
		case <-w.closing:
		}
	}
}

// take returns the lines that wait, and reuses the memory of old for the next ones.
func (w *Writer) take(old []byte) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := w.waiting
	if w.dropped > 0 {
		notice := bytes.NewBuffer(lines)
		slog.New(Handler(notice, w.format)).Warn("log lines were dropped: they could not be written in time", "lines", w.dropped)
		lines = notice.Bytes()
	}
	w.waiting, w.dropped = old[:0], 0
	return lines
}

// send writes lines. An error may be temporary, such as that of a full disk, so send pauses and goes on from there.
func (w *Writer) send(lines []byte) {
	for len(lines) > 0 {
		n, err := w.to.Write(lines[:whole(lines)])
		lines = lines[n:]
		if err == nil {
			continue
		}
		select {
		case <-time.After(pause):
		case <-w.closing:
			return
		}
	}
}

// whole returns the length of as many whole lines as a pipe takes at once, or of the first line if that is longer.
func whole(lines []byte) int {
	if len(lines) <= pipeBuf {
		return len(lines)
	}
	end := bytes.LastIndexByte(lines[:pipeBuf], '\n')
	if end < 0 {
		end = bytes.IndexByte(lines, '\n')
	}
	if end < 0 {
		return len(lines)
	}
	return end + 1
}
