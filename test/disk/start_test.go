package disk

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gin-sse/internal/testfiles"
	"gin-sse/internal/testlog"
	"gin-sse/internal/testport"
	"gin-sse/internal/testsse"
	"gin-sse/test/internal/app"
)

var (
	kills   = flag.Int("kills", 2, "how often the tests of DATA_DIR kill the server")
	fullFor = flag.Duration("full", 3*time.Second, "for how long the disk stays full under load")
)

// startKeeping starts a server that keeps its messages in a directory.
func startKeeping(t *testing.T, dir string, env ...string) *app.Server {
	t.Helper()
	return app.Start(t, append([]string{"DATA_DIR=" + dir, "PUBLISH_TOKEN=" + app.Token, "TICK_INTERVAL=0"}, env...)...)
}

func TestWhatIsKeptOnDiskOutlivesAStopAndAKill(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	a := startKeeping(t, dir)
	first, err := app.Post(t.Context(), a.URL, "key", `"one"`)
	if err != nil {
		t.Fatal(err)
	}
	answer := testsse.ReadAll(t, first.Body)
	first.Body.Close()
	a.PublishTo("done&end=true", `"two"`)
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		a.Stop(signal)
		a = startKeeping(t, dir)
		stream := a.Get("/sse?lastEventId=earliest").Body
		testsse.ReadUntil(t, stream, `data:"one"`)
		if text := testsse.ReadAll(t, a.Get("/sse?topic=done&lastEventId=earliest").Body); strings.Count(text, `data:"two"`) != 1 {
			t.Errorf("after %v, the topic that has ended has %q", signal, text)
		}
		again, err := app.Post(t.Context(), a.URL, "key", `"one"`)
		if err != nil {
			t.Fatal(err)
		}
		if text := testsse.ReadAll(t, again.Body); text != answer {
			t.Errorf("after %v, the same key is answered %s, and before it was %s", signal, text, answer)
		}
		again.Body.Close()
	}
}

func TestMetricsShowTheCommitsToTheDisk(t *testing.T) {
	t.Parallel()
	a := startKeeping(t, t.TempDir(), "METRICS=true")
	a.Publish(`"one"`)
	text := testsse.ReadAll(t, a.Get("/metrics").Body)
	for _, want := range []string{
		"\ngin_sse_journal_commit_seconds_count 1\n",
		"\ngin_sse_journal_commit_seconds_sum 0.",
		"\ngin_sse_journal_message_bytes_total 5\n",
		"\ngin_sse_journal_failed_commits_total 0\n",
		"\ngin_sse_journal_size_bytes ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics have no %q", want)
		}
	}
}

func TestStartWithADataDirThatCannotBeUsedSaysWhyInOneLineAndChangesNothing(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		content string // of gin-sse.db
		path    string // below the directory
		want    string
	}{
		"a file":         {"x", "gin-sse.db", "cannot be made: mkdir "},
		"another file":   {strings.Repeat("another program's\n", 1000), "", "is damaged, or another program's: its beginning is none that gin-sse writes; put a backup"},
		"an empty file":  {"", "", "is damaged, or another program's: it is not whole; put a backup"},
		"another server": {"", "used", "is in use by another gin-sse: stop that one"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			if err := os.WriteFile(filepath.Join(root, "gin-sse.db"), []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if test.path == "used" {
				startKeeping(t, filepath.Join(root, "used"))
			}
			refuses(t, root, filepath.Join(root, test.path), test.want)
		})
	}
}

// refuses checks that a start with that DATA_DIR ends with one line, and changes nothing below root.
func refuses(t *testing.T, root, dir, want string) {
	t.Helper()
	before := testfiles.Snapshot(t, root)
	out, code := app.Fails(t, []string{fmt.Sprint("PORT=", testport.Free(t)), "DATA_DIR=" + dir})
	if code != 1 || !strings.HasPrefix(out, fmt.Sprintf("gin-sse: DATA_DIR=%q", dir)) || !strings.Contains(out, want) || strings.Count(out, "\n") != 1 {
		t.Errorf("exit status %d, and it said %q; want 1 and one line with %q", code, out, want)
	}
	if after := testfiles.Snapshot(t, root); after != before {
		t.Errorf("after the start there is\n%s, and before there was\n%s", after, before)
	}
}

// Package journal tries every byte. This is whether the program does the same.
func TestDamagedFileIsRefusedOrServedAsItWas(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := startKeeping(t, dir)
	for n := range 100 {
		a.Publish(fmt.Sprintf(`{"n":%d,"text":%q}`, n, strings.Repeat("x", 10*n)))
	}
	a.Publish(`"last"`)
	want := shown(t, a.Get("/sse?lastEventId=earliest").Body)
	a.Stop(syscall.SIGKILL)
	path := filepath.Join(dir, "gin-sse.db")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for n := range 40 {
		damaged := bytes.Clone(content)
		at := rand.IntN(len(content))
		if n%2 == 0 {
			damaged = damaged[:at]
		} else {
			damaged[at] ^= byte(1 + rand.IntN(255))
		}
		dir := t.TempDir()
		path := filepath.Join(dir, "gin-sse.db")
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		a, out := app.TryStart(t, "DATA_DIR="+dir, "PUBLISH_TOKEN="+app.Token, "TICK_INTERVAL=0")
		if a != nil {
			if got := shown(t, a.Get("/sse?lastEventId=earliest").Body); got != want {
				t.Errorf("byte %d of %d, change %d: it serves %q", at, len(content), n%2, got)
			}
			a.Stop(syscall.SIGKILL)
			continue
		}
		refused++
		if !strings.HasPrefix(out, fmt.Sprintf("gin-sse: DATA_DIR=%q", dir)) || strings.Count(out, "\n") != 1 {
			t.Errorf("byte %d of %d, change %d: it said %q", at, len(content), n%2, out)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, damaged) {
			t.Errorf("byte %d of %d, change %d: a refused start has changed the file: %v", at, len(content), n%2, err)
		}
	}
	t.Logf("%d of 40 were refused", refused)
	if refused == 0 {
		t.Error("none was refused")
	}
}

// shown returns the stream up to the last message, without its random parts.
func shown(t *testing.T, stream io.ReadCloser) string {
	t.Helper()
	_, text, _ := strings.Cut(testsse.ReadUntil(t, stream, `data:"last"`), "\n")
	return text
}

// Each start makes the file smaller, and is killed on the way.
func TestStartThatIsKilledLosesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := startKeeping(t, dir)
	for range 600 {
		a.Publish(fmt.Sprintf("%q", strings.Repeat("x", 2000)))
	}
	a.Publish(`"last"`)
	a.Stop(syscall.SIGKILL)
	path := filepath.Join(dir, "gin-sse.db")
	large, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	earliest := func() string {
		a := startKeeping(t, dir, "HISTORY=10")
		defer a.Stop(syscall.SIGKILL)
		return shown(t, a.Get("/sse?lastEventId=earliest").Body)
	}
	want, smaller := earliest(), 0
	for range 10 * *kills {
		if err := os.WriteFile(path, large, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := app.Command(t, fmt.Sprint("PORT=", testport.Free(t)), "DATA_DIR="+dir, "HISTORY=10", "GIN_MODE=release")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-time.After(rand.N(100 * time.Millisecond))
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		if info, err := os.Stat(path); err != nil {
			t.Fatal(err)
		} else if info.Size() < int64(len(large)) {
			smaller++
		}
		if got := earliest(); got != want || strings.Count(got, "data:") != 13 { // also the two positions and the gap
			t.Fatalf("after a start that was killed there is\n%s\nwant\n%s", got, want)
		}
	}
	t.Logf("%d of %d starts were killed after they had made the file smaller", smaller, 10**kills)
}

func TestOfTwoServersThatStartAtOnceInOneDirectoryOneRuns(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	var starting sync.WaitGroup
	cmds := make([]*exec.Cmd, 4)
	outs := make([]*testlog.Log, len(cmds))
	for i := range cmds {
		outs[i] = new(testlog.Log)
		cmds[i] = app.Command(t, "DATA_DIR="+dir, "PORT=0", "GIN_MODE=release")
		cmds[i].Stdout, cmds[i].Stderr = outs[i], outs[i]
	}
	left := make(chan int, len(cmds))
	for i, cmd := range cmds {
		starting.Go(func() {
			_ = cmd.Run() // the output is what counts
			left <- i
		})
	}
	running := len(cmds) * (len(cmds) - 1) / 2 // the sum of all minus those that have left
	for range len(cmds) - 1 {
		i := <-left
		running -= i
		if text := outs[i].String(); !strings.Contains(text, "is in use by another gin-sse") {
			t.Errorf("one said %q", text)
		}
	}
	outs[running].Wait(t, "Server running on ")
	if err := cmds[running].Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	starting.Wait()
}
