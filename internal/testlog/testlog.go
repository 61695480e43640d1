// Package testlog collects what a program prints, and lets tests wait for a line of it.
package testlog

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"gin-sse/internal/testwait"
)

// Log is an io.Writer that keeps everything. Its methods may be called from any number of goroutines.
type Log struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed at the next Write; nil unless somebody waits for that
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	return l.text.Write(p)
}

// String returns everything that was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// read returns everything that was written, and a channel that is closed when there is more.
func (l *Log) read() (text string, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.text.String(), l.changed
}

// Lines returns the whole lines that have the text.
func (l *Log) Lines(text string) []string { return linesWith(l.String(), text) }

func linesWith(all, text string) (found []string) {
	whole := all[:strings.LastIndex(all, "\n")+1]
	for line := range strings.Lines(whole) {
		if strings.Contains(line, text) {
			found = append(found, strings.TrimSuffix(line, "\n"))
		}
	}
	return found
}

// Wait returns the first whole line that has the text. If none comes in testwait.Limit, the test fails.
func (l *Log) Wait(t testing.TB, text string) string {
	t.Helper()
	return l.WaitFor(t, text, 1, testwait.Limit)[0]
}

// WaitFor returns the whole lines that have the text, once there are n.
func (l *Log) WaitFor(t testing.TB, text string, n int, limit time.Duration) []string {
	t.Helper()
	timeout := time.After(limit)
	for {
		all, changed := l.read()
		if found := linesWith(all, text); len(found) >= n {
			return found
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%d lines with %q within %v, want %d; there is:\n%s", len(linesWith(all, text)), text, limit, n, all)
		}
	}
}
