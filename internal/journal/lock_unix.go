//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package journal

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// mapped is for how large a file there are addresses in memory from the beginning. To get more, bbolt waits until no copy is
// being made, and publishers with it. It takes no memory.
const mapped = 1 << 30

// restrict makes a socket that will be bound one of this user alone.
func restrict(socket uintptr) { _ = syscall.Fchmod(int(socket), 0o600) } // Linux; elsewhere it has no effect

// lock locks a directory for this process, and waits if another one has it. The lock ends when the directory is
// closed. bbolt locks its file too, but the file is replaced when it shrinks, and a process could wait for the old one.
func lock(dir *os.File, wait time.Duration) error {
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return err
		case time.Since(begin) > wait:
			return errLocked
		}
	}
}
