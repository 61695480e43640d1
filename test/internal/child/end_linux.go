package child

import (
	"os/exec"
	"syscall"
)

// endWithParent lets the kernel kill the process when the thread that started it ends. Threads of a Go program end with the
// program, unless a goroutine locks one and returns. No test does that.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
