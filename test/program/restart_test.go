package program

import (
	"strings"
	"syscall"
	"testing"

	"gin-sse/internal/testsse"
	"gin-sse/test/internal/app"
)

// nohup and setsid leave a program with SIGHUP ignored. The shell here does the same.
func TestIgnoredSIGHUPStaysIgnored(t *testing.T) {
	t.Parallel()
	cmd := app.Command(t, "TICK_INTERVAL=50ms")
	cmd.Args = []string{"sh", "-c", `trap "" HUP; exec "$0"`, cmd.Path}
	cmd.Path = "/bin/sh"
	a := app.StartCommand(t, cmd)
	stream := a.Get("/sse").Body
	if err := a.Cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for range 5 { // a stop would end the stream
		testsse.ReadUntil(t, stream, "Server Time: ")
	}
	a.StopPolitely(syscall.SIGTERM)
}

// So clients that come while a large DATA_DIR is read wait for it, and are not refused. Here both are taken.
func TestThePortIsOpenedBeforeTheMessagesAreRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := app.Start(t, "HOST=127.0.0.1", "DATA_DIR="+dir)
	out, code := app.Fails(t, []string{"HOST=127.0.0.1", "PORT=" + a.Port, "DATA_DIR=" + dir})
	if want := "gin-sse: port " + a.Port + " is taken by another program: "; code != 1 || !strings.HasPrefix(out, want) || strings.Count(out, "\n") != 1 {
		t.Errorf("exit status %d, and it said %q; want 1 and one line that begins with %q", code, out, want)
	}
}
