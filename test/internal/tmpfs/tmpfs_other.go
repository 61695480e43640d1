//go:build !linux

package tmpfs

import (
	"errors"
	"testing"

	"gin-sse/test/internal/need"
)

// Mount ends the test: other systems have no such file system.
func Mount(t *testing.T, size string) (dir string) {
	t.Helper()
	need.Missing(t, "a file system in memory", "run it on Linux")
	return ""
}

// Fill is not called, as Mount has ended the test.
func Fill(string) error { return errors.ErrUnsupported }

// Clear is not called, as Mount has ended the test.
func Clear(string) error { return errors.ErrUnsupported }
