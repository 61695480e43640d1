// Package testwait waits in tests, and never without a limit.
package testwait

import (
	"testing"
	"time"
)

// Limit bounds each wait for something that takes milliseconds on an idle machine.
const Limit = 30 * time.Second

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
