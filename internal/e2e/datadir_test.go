package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gin-sse/internal/testlog"
	"gin-sse/internal/testport"
)

var kills = flag.Int("kills", 2, "how often the tests of DATA_DIR kill the server")

// startKeeping starts a server that keeps its messages in a directory.
func startKeeping(t *testing.T, dir string, env ...string) *app {
	t.Helper()
	return start(t, append([]string{"DATA_DIR=" + dir, "PUBLISH_TOKEN=" + token, "TICK_INTERVAL=0"}, env...)...)
}

func TestPageMissesNothingWhenAServerThatKeepsMessagesIsRestarted(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a folder", "with spaces")
	a := startKeeping(t, dir)
	b := browse(t)
	page := b.open(a.url)
	page.until(state("live"))
	a.publish(`{"message":"one"}`)
	page.until(shows(1))
	b.offline.Store(true)
	a.stopPolitely(syscall.SIGTERM)
	page.until(state("lost"))
	again := startKeeping(t, dir, "PORT="+a.port)
	again.publish(`{"message":"two"}`)
	page.until(shows(2))
	if got, want := evaluate[[]string](page, messageTexts), []string{"one", "two"}; !slices.Equal(got, want) {
		t.Errorf("the page shows %q, want %q", got, want)
	}
	status := b.open(again.url + "/status")
	status.until(state("live"))
	status.until(`/^\d+ kB$/.test(document.getElementById('disk').textContent)`)
	status.picture("status-disk")
}

func TestWhatIsKeptOnDiskOutlivesAStopAndAKill(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	a := startKeeping(t, dir)
	first, err := post(t.Context(), a.url, "key", `"one"`)
	if err != nil {
		t.Fatal(err)
	}
	answer := readAll(t, first.Body)
	first.Body.Close()
	a.publishTo("done&end=true", `"two"`)
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		a.stop(signal)
		a = startKeeping(t, dir)
		stream := a.get("/sse?lastEventId=earliest").Body
		readUntil(t, stream, `data:"one"`)
		if text := readAll(t, a.get("/sse?topic=done&lastEventId=earliest").Body); strings.Count(text, `data:"two"`) != 1 {
			t.Errorf("after %v, the topic that has ended has %q", signal, text)
		}
		again, err := post(t.Context(), a.url, "key", `"one"`)
		if err != nil {
			t.Fatal(err)
		}
		if text := readAll(t, again.Body); text != answer {
			t.Errorf("after %v, the same key is answered %s, and before it was %s", signal, text, answer)
		}
		again.Body.Close()
	}
}

func TestMetricsShowTheCommitsToTheDisk(t *testing.T) {
	t.Parallel()
	a := startKeeping(t, t.TempDir(), "METRICS=true")
	a.publish(`"one"`)
	text := readAll(t, a.get("/metrics").Body)
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
		"another file":   {strings.Repeat("another program's\n", 1000), "", "is damaged, or another program's: its beginning is none that gin-sse writes; put a copy"},
		"an empty file":  {"", "", "is damaged, or another program's: it is not whole; put a copy"},
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
	before := snapshot(t, root)
	out, code := fails(t, []string{fmt.Sprint("PORT=", testport.Free(t)), "DATA_DIR=" + dir})
	if code != 1 || !strings.HasPrefix(out, fmt.Sprintf("gin-sse: DATA_DIR=%q", dir)) || !strings.Contains(out, want) || strings.Count(out, "\n") != 1 {
		t.Errorf("exit status %d, and it said %q; want 1 and one line with %q", code, out, want)
	}
	if after := snapshot(t, root); after != before {
		t.Errorf("after the start there is\n%s, and before there was\n%s", after, before)
	}
}

// snapshot returns the names, times and contents of all files below a directory, and its own.
func snapshot(t *testing.T, root string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(&all, path, info.Mode(), info.ModTime().UnixNano())
		if entry.Type().IsRegular() {
			content, err := os.ReadFile(path)
			fmt.Fprintf(&all, "%q\n", content)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// Package journal tries every byte. This is whether the program does the same.
func TestDamagedFileIsRefusedOrServedAsItWas(t *testing.T) {
	t.Parallel()
	long(t)
	dir := t.TempDir()
	a := startKeeping(t, dir)
	for n := range 100 {
		a.publish(fmt.Sprintf(`{"n":%d,"text":%q}`, n, strings.Repeat("x", 10*n)))
	}
	a.publish(`"last"`)
	want := shown(t, a.get("/sse?lastEventId=earliest").Body)
	a.stop(syscall.SIGKILL)
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
		a, out := tryStart(t, "DATA_DIR="+dir, "PUBLISH_TOKEN="+token, "TICK_INTERVAL=0")
		if a != nil {
			if got := shown(t, a.get("/sse?lastEventId=earliest").Body); got != want {
				t.Errorf("byte %d of %d, change %d: it serves %q", at, len(content), n%2, got)
			}
			a.stop(syscall.SIGKILL)
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
func shown(t *testing.T, stream interface{ Read([]byte) (int, error) }) string {
	t.Helper()
	_, text, _ := strings.Cut(readUntil(t, stream, `data:"last"`), "\n")
	return text
}

// tryStart starts the program. If it does not run, it returns what the program said.
func tryStart(t *testing.T, env ...string) (*app, string) {
	t.Helper()
	cmd := command(t, env...)
	a := &app{t: t, cmd: cmd, out: new(testlog.Log), exited: make(chan struct{})}
	a.port = fmt.Sprint(testport.Free(t))
	a.url = "http://localhost:" + a.port
	cmd.Env = append([]string{"PORT=" + a.port, "GIN_MODE=release"}, cmd.Env...)
	cmd.Stdout, cmd.Stderr = a.out, a.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		a.status = cmd.Wait()
		close(a.exited)
	}()
	t.Cleanup(func() {
		if !a.stopped {
			a.stop(syscall.SIGTERM)
		}
	})
	for deadline := time.Now().Add(patience); ; {
		select {
		case <-a.exited:
			a.stopped = true
			if code := cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit status %d; it said:\n%s", code, a.out.String())
			}
			return nil, a.out.String()
		case <-time.After(10 * time.Millisecond):
		}
		if strings.Contains(a.out.String(), "Server running on ") {
			return a, ""
		}
		if time.Now().After(deadline) {
			t.Fatalf("it neither runs nor exits; it said:\n%s", a.out.String())
		}
	}
}

// Each start makes the file smaller, and is killed on the way.
func TestStartThatIsKilledLosesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := startKeeping(t, dir)
	for range 600 {
		a.publish(fmt.Sprintf("%q", strings.Repeat("x", 2000)))
	}
	a.publish(`"last"`)
	a.stop(syscall.SIGKILL)
	path := filepath.Join(dir, "gin-sse.db")
	large, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	earliest := func() string {
		a := startKeeping(t, dir, "HISTORY=10")
		defer a.stop(syscall.SIGKILL)
		return shown(t, a.get("/sse?lastEventId=earliest").Body)
	}
	want, smaller := earliest(), 0
	for range 10 * *kills {
		if err := os.WriteFile(path, large, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := command(t, fmt.Sprint("PORT=", testport.Free(t)), "DATA_DIR="+dir, "HISTORY=10", "GIN_MODE=release")
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
		if got := earliest(); got != want || strings.Count(got, "data:") != 11 { // the first one is the position
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
		cmds[i] = command(t, "DATA_DIR="+dir, "PORT=0", "GIN_MODE=release")
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
