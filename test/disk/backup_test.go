package disk

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/app"
)

// commands returns the block of commands below a heading of docs/disk.md.
func commands(t *testing.T, heading string) string {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join(app.Root(), "docs", "disk.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "\n### "+heading+"\n")
	block := regexp.MustCompile(`(?m)(^    .*\n)+`).FindString(section)
	if block == "" {
		t.Fatalf("docs/disk.md has no commands below %q", heading)
	}
	return block
}

// run runs commands of docs/disk.md in a folder.
func run(t *testing.T, dir, commands string) {
	t.Helper()
	programs := t.TempDir()
	if err := os.Symlink(app.Command(t).Path, filepath.Join(programs, "gin-sse")); err != nil {
		t.Fatal(err)
	}
	sh := exec.CommandContext(t.Context(), "sh", "-ec", commands)
	sh.Dir = dir
	sh.Env = []string{"PATH=" + programs + ":" + os.Getenv("PATH")}
	if out, err := sh.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%s: %v\n%s", commands, err, out)
	}
}

func TestBackUpRestoreAndMoveAsDocumented(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	env := []string{"DATA_DIR=./data", "PUBLISH_TOKEN=" + app.Token, "TICK_INTERVAL=0"}
	a := app.StartIn(t, dir, env...)
	a.Publish(`"one"`)
	run(t, dir, commands(t, "Back up"))
	late := a.Publish(`"lost"`)
	a.StopPolitely(syscall.SIGTERM)

	run(t, dir, commands(t, "Restore"))
	a = app.StartIn(t, dir, env...)
	two := a.Publish(`"two"`)
	if got := all(t, a, late); !slices.Equal(got, []string{"gap {}", `message "one"`, `message "two"`}) {
		t.Errorf("a client with an id from after the backup gets %q", got)
	}
	a.StopPolitely(syscall.SIGTERM)

	run(t, dir, commands(t, "Move"))
	env[0] = "DATA_DIR=" + filepath.Join(dir, "elsewhere", "data")
	a = app.StartIn(t, dir, env...)
	a.Publish(`"three"`)
	if got := all(t, a, two); !slices.Equal(got, []string{`message "three"`}) {
		t.Errorf("after the move, a client gets %q", got)
	}
}

// all returns what a client with that id gets.
func all(t *testing.T, a *app.Server, id string) (events []string) {
	t.Helper()
	text := testsse.ReadAll(t, a.Get("/sse?follow=false&lastEventId="+id).Body)
	for block := range strings.SplitSeq(text, "\n\n") {
		kind := "message"
		if _, rest, named := strings.Cut(block, "event:"); named {
			kind, _, _ = strings.Cut(rest, "\n")
		}
		if _, data, has := strings.Cut(block, "data:"); has && kind != "position" {
			events = append(events, kind+" "+data)
		}
	}
	return events
}

// A backup has all that was acknowledged before it began, and of what came later a part without holes.
func TestABackupUnderLoadIsWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := startKeeping(t, filepath.Join(dir, "data"), "HISTORY=1000000")
	ctx, stop := context.WithCancel(t.Context())
	var publishing sync.WaitGroup
	defer publishing.Wait()
	defer stop()
	books := ledger{url: a.URL, acknowledged: map[int]string{}, refused: map[string]int{}}
	out := make(chan struct{})
	begin := time.Now()
	for p := range 64 {
		publishing.Go(func() { books.publish(ctx, t, p, time.Microsecond, 100, out) })
	}
	before := make([]int, 3)
	for i := range before {
		<-time.After(200 * time.Millisecond)
		before[i] = books.last()
		run(t, dir, fmt.Sprintf("DATA_DIR=./data gin-sse backup %d.db", i))
	}
	close(out)
	publishing.Wait()
	t.Logf("%.0f messages a second", float64(len(books.acknowledged))/time.Since(begin).Seconds())
	for i, last := range before {
		data := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, fmt.Sprint(i, ".db")), filepath.Join(data, "gin-sse.db")); err != nil {
			t.Fatal(err)
		}
		restored := startKeeping(t, data, "HISTORY=1000000")
		got := all(t, restored, "earliest")
		t.Logf("a backup made after message %d has %d of %d messages", last, len(got), len(books.acknowledged))
		if len(got) < last || len(got) > len(books.acknowledged) {
			t.Errorf("it has %d messages, and there were %d before and %d after it", len(got), last, len(books.acknowledged))
		}
		for n, event := range got {
			if want := "message [" + books.acknowledged[n+1] + `,"`; !strings.HasPrefix(event, want) {
				t.Fatalf("message %d of the backup is %.40q, want %q", n+1, event, want)
			}
		}
	}
}

func TestAnInterruptedBackupLeavesNothing(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "") // its name is short, as the path of a socket must be
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	server, err := net.Listen("unix", filepath.Join(dir, "gin-sse.sock")) // it never sends anything
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	target := t.TempDir()
	cmd := app.Command(t, "DATA_DIR="+dir)
	cmd.Args = append(cmd.Args, "backup", filepath.Join(target, "copy.db"))
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testwait.For(t, "a file with part of a backup", func() bool {
		begun, err := filepath.Glob(filepath.Join(target, "copy.db.unfinished-*"))
		return err == nil && len(begun) == 1
	})
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(said.String(), "the backup was interrupted") {
		t.Errorf("it has ended with %v and said %q", err, said.String())
	}
	if left, err := os.ReadDir(target); err != nil || len(left) != 0 {
		t.Errorf("it has left %v, %v", left, err)
	}
}
