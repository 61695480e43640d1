package server

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	mostSpare   = 32                     // descriptors that are kept for the limit of open files
	spareTime   = 2 * time.Second        // how long a connection may use one of them
	spareSilent = 100 * time.Millisecond // for how long of that it may have sent nothing
	reminder    = time.Minute            // between two lines in the log about the limit
)

// spare holds descriptors back, so that the server can still answer when the process may open no more files: /healthz
// stays well, and a client that wants a stream is told to try again, rather than left to wait. A connection with such a
// descriptor answers one request and carries no stream.
type spare struct {
	mu       sync.Mutex
	files    []*os.File
	wanted   int // how many files there should be
	closed   bool
	reported time.Time

	freed chan struct{} // has something when a file may have come back
	ended chan struct{} // closed by close
}

func newSpare() *spare {
	s := &spare{wanted: mostSpare, freed: make(chan struct{}, 1), ended: make(chan struct{})}
	if limit, ok := openFilesLimit(); ok {
		s.wanted = int(max(1, min(mostSpare, limit/8)))
	}
	s.refill()
	return s
}

// accept calls next until it returns a connection. If that has a spare descriptor, release is not nil and must be called
// when it is closed.
func (s *spare) accept(next func() (*net.TCPConn, error)) (c *net.TCPConn, release func(), err error) {
	for {
		c, err = next()
		switch {
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
			s.report(err)
			if !s.lend() {
				s.wait()
			}
		case err != nil || s.refill():
			return c, nil, err
		default: // a spare file is missing, so the connection has its descriptor
			return c, sync.OnceFunc(func() {
				s.refill()
				select {
				case s.freed <- struct{}{}:
				default:
				}
			}), nil
		}
	}
}

// wait waits until a spare file may have come back. After close it does not wait.
func (s *spare) wait() {
	select {
	case <-s.freed:
	case <-s.ended:
	case <-time.After(time.Second): // others may have closed files
	}
	s.refill()
}

// lend closes a spare file, so that its descriptor can be used, and reports whether there was one.
func (s *spare) lend() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files) == 0 {
		return false
	}
	last := len(s.files) - 1
	_ = s.files[last].Close() // nothing was written to it
	s.files = s.files[:last]
	return true
}

// refill opens spare files again, and reports whether all are there.
func (s *spare) refill() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.closed && len(s.files) < s.wanted {
		file, err := os.Open(os.DevNull)
		if err != nil {
			return false
		}
		s.files = append(s.files, file)
	}
	return true
}

// report tells the log what to do about the limit, once in a while.
func (s *spare) report(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.reported) < reminder {
		return
	}
	s.reported = time.Now()
	limit, ok := openFilesLimit()
	if errors.Is(err, syscall.ENFILE) || !ok {
		slog.Warn("the system allows no more open files: new clients get 503 until others leave", "error", err)
		return
	}
	slog.Warn("the limit of open files is reached: new clients get 503 until others leave. Raise it: LimitNOFILE= in the unit of systemd, --ulimit nofile= with Docker, ulimit -n in a shell", "limit", limit)
}

func (s *spare) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	close(s.ended)
	for _, file := range s.files {
		_ = file.Close() // nothing was written to it
	}
	s.files = nil
}
