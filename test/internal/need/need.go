// Package need ends tests whose programs are not installed. They are skipped, but fail where CI=true, so that nothing is
// left out there without a word.
package need

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Missing ends a test that needs something which is not there.
func Missing(t testing.TB, what, get string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("this test needs %s: %s", what, get)
	}
	t.Skipf("this test needs %s: %s", what, get)
}

// Program ends a test if the first word of a command is a program that is not installed.
func Program(t testing.TB, command string) {
	t.Helper()
	program, _, _ := strings.Cut(command, " ")
	if _, err := exec.LookPath(program); err != nil {
		Missing(t, program, "install it (apt-get install "+program+")")
	}
}
