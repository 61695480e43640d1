// Package child makes the processes of tests, which must not outlive the test's own: not even if that panics, is
// interrupted or is killed.
package child

import (
	"context"
	"os/exec"
)

// Command is exec.CommandContext for a process that ends with this one.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	endWithParent(cmd)
	return cmd
}
