package main

import (
	"os"
	"os/exec"
	"testing"
)

// Gin's init panics over a mode that it does not know. This test's own process has what main.go imports, and so the
// order in which that is initialised.
func TestBadGinModeDoesNotPanicBeforeMain(t *testing.T) {
	t.Parallel()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	child.Env = []string{"GIN_MODE=production"}
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}
