// Package output writes a log to standard output or standard error without making anyone wait for it.
//
// A write to a pipe that nobody reads blocks for good, and with it every request that logs. A Writer takes
// each line at once instead, and drops and counts what does not fit.
package output

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// limit is how many bytes may wait: about 2,000 lines. As many again may be on their way out.
	limit = 256 << 10

	// pipeBuf is how many bytes a pipe on Linux takes whole or not at all (PIPE_BUF). Within it lines of
	// standard output and standard error do not mix on one pipe, and a process that ends leaves no half line.
	pipeBuf = 4 << 10

	// pause is how long a Writer waits after an error.
	pause = 100 * time.Millisecond
)

// Writer is an io.Writer for a log. Any number of goroutines may use it.
type Writer struct {
	to      io.Writer
	more    chan struct{} // holds a token if something may be waiting
	closing chan struct{} // closed by Close
	done    chan struct{} // closed when nothing is written any more

	mu      sync.Mutex
	waiting []byte
	dropped int // since waiting was last taken
}

// New returns a Writer that writes to to on a goroutine of its own, which Close ends.
//
// If to is os.Stdout or os.Stderr, the program has to call signal.Ignore(syscall.SIGPIPE) first. Otherwise Go
// ends it at the first write after the reader of that pipe has gone.
func New(to io.Writer) *Writer {
	w := &Writer{to: to, more: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{})}
	go w.run()
	return w
}

// Write takes p, one or more whole lines, and returns at once, always with len(p) and no error. If p does not
// fit, all of it is dropped and counts as one line. The log says how many were dropped as soon as there is
// room. After an error p is tried again until Close, and nothing is written twice.
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

// Close returns when everything is written or another write has failed, or with an error when ctx ends first.
// In that case the goroutine ends when the write that blocks it returns. Call Close once; lines that are
// written after it are lost.
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
	}
}

// take returns what is waiting, and lets new lines gather in the memory of old ones.
func (w *Writer) take(old []byte) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := w.waiting
	if w.dropped > 0 {
		lines = fmt.Appendf(lines, "%s %d log lines were dropped: they could not be written in time\n",
			time.Now().Format("2006/01/02 15:04:05"), w.dropped)
	}
	w.waiting, w.dropped = old[:0], 0
	return lines
}

// send writes lines. An error may pass, such as that of a full disk, so it goes on where the error came.
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

// whole is the length of as many whole lines as a pipe takes at once, or of the first line if that is longer.
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
