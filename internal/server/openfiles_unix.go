//go:build unix

package server

import "golang.org/x/sys/unix"

// openFilesLimit returns how many files the process may have open, connections included.
func openFilesLimit() (limit uint64, ok bool) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, false
	}
	return uint64(r.Cur), true
}
