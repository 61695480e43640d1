//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package journal

import (
	"os"
	"time"
)

// mapped leaves it to bbolt for how large a file there are addresses in memory: on Windows, the file would become as large.
const mapped = 0

// lock leaves it to bbolt to lock its file.
func lock(*os.File, time.Duration) error { return nil }

// restrict does nothing: the permissions of the directory decide which users may open a socket in it.
func restrict(uintptr) {}
