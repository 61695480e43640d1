//go:build !linux

package child

import (
	"os/exec"
	"syscall"
)

// endWithParent asks for nothing: other systems have no such request. There a test that is killed leaves its servers behind.
func endWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{} }
