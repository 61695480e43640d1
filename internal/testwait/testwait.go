// Package testwait waits in tests, and never without a limit.
package testwait

import (
	"testing"
	"time"
)

// Limit bounds each wait for something that takes milliseconds, or seconds, on an idle machine. On one that is busy with
// much else, the same has taken a minute.
const Limit = 3 * time.Minute

// Until calls complaint until it returns nothing. The test fails with its last complaint if that takes too long.
func Until(t testing.TB, complaint func() string) {
	t.Helper()
	for deadline := time.Now().Add(Limit); ; time.Sleep(time.Millisecond) { // rather than take a processor from the code under test
		text := complaint()
		if text == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %s", Limit, text)
		}
	}
}

// For waits until the condition holds. It says what is missing if that takes too long.
func For(t testing.TB, what string, holds func() bool) {
	t.Helper()
	Until(t, func() string {
		if holds() {
			return ""
		}
		return "no sign of " + what
	})
}

// Closed waits until a channel is closed, or has something.
func Closed[T any](t testing.TB, what string, done <-chan T) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(Limit):
		t.Fatalf("%s: not within %v", what, Limit)
	}
}
