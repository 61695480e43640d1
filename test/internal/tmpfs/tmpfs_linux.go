// Package tmpfs gives tests a small file system of their own, which they can fill.
package tmpfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"gin-sse/test/internal/need"
)

// Mount mounts an empty file system of that size, such as "128m", until the test ends. It returns the folder.
func Mount(t *testing.T, size string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		need.Missing(t, "the right to mount a file system", fmt.Sprintf("run it as root: mount tmpfs: %v", err))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

func filler(dir string) string { return filepath.Join(dir, "filler") }

// Fill leaves no room on the file system.
func Fill(dir string) error {
	f, err := os.Create(filler(dir))
	if err != nil {
		return err
	}
	for size := 1 << 20; size > 0; {
		if _, err = f.Write(make([]byte, size)); err != nil {
			size /= 2 // down to the last byte
		}
	}
	if errors.Is(err, unix.ENOSPC) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// Clear makes room again.
func Clear(dir string) error { return os.Remove(filler(dir)) }
