package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"gin-sse/internal/testwait"
)

// As a parent, this program starts a process, says which, and waits.
func TestMain(m *testing.M) {
	if os.Getenv("PARENT") == "" {
		os.Exit(m.Run())
	}
	cmd := Command(context.Background(), "sleep", "600")
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(cmd.Process.Pid)
	if err := cmd.Wait(); err != nil {
		log.Fatal(err)
	}
}

func TestAProcessEndsWithItsParentHoweverThatEnds(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT, syscall.SIGQUIT} { // a panic ends it as SIGQUIT does
		parent := exec.Command(os.Args[0])
		parent.Env = append(os.Environ(), "PARENT=yes")
		out, err := parent.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := parent.Start(); err != nil {
			t.Fatal(err)
		}
		var pid int
		if _, err := fmt.Fscan(bufio.NewReader(out), &pid); err != nil {
			t.Fatal(err)
		}
		if err := parent.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = parent.Wait() // it was killed
		testwait.Until(t, func() string {
			command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // empty when it has ended and nobody has noticed
			if len(command) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Sprintf("after %v the process %q is still there (%v)", signal, command, err)
			}
			return ""
		})
	}
}
