//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package journal

import (
	"os"
	"time"
)

// lock leaves it to bbolt to lock its file.
func lock(*os.File, time.Duration) error { return nil }
