//go:build unix

package child

import (
	"fmt"
	"os"
	"syscall"
)

// Suspend stops a process of this one until Resume. All its threads have stopped when Suspend returns.
func Suspend(p *os.Process) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("suspend a process: %w", err)
	}
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(p.Pid, &status, syscall.WUNTRACED, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return fmt.Errorf("wait for a suspended process: %w", err)
		case status.Stopped():
			return nil
		default:
			return fmt.Errorf("the process has ended: status %d", status)
		}
	}
}

// Resume lets a process go on after Suspend.
func Resume(p *os.Process) error { return p.Signal(syscall.SIGCONT) }
