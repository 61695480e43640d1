//go:build unix

package capacity

import (
	"math"

	"golang.org/x/sys/unix"
)

// Files returns how many files the process may have open, or 0 if there is no limit. Go has raised the limit to the
// highest that the system allows.
func Files() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) >= math.MaxInt64 {
		return 0
	}
	return uint64(limit.Cur)
}
