package disk

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tmaxmax/go-sse"
	"golang.org/x/sys/unix"

	"gin-sse/internal/testfiles"
	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/app"
	"gin-sse/test/internal/browser"
	"gin-sse/test/internal/child"
	"gin-sse/test/internal/npm"
	"gin-sse/test/internal/tmpfs"
)

func TestKilledServerLosesNothingThatItAcknowledged(t *testing.T) {
	t.Parallel()
	loseNothing(t, sound{t.TempDir()}, 10*time.Millisecond, 0)
}

func TestFullDiskLosesNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	loseNothing(t, full{tmpfs.Mount(t, "128m")}, 100*time.Millisecond, 1000)
}

func TestFailingDiskLosesNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	loseNothing(t, failing{t.TempDir()}, 20*time.Millisecond, 1000)
}

// A disk that fills up is one event for the operator on call: a small message that still fits must not make the server ready
// for a moment.
func TestADiskThatFillsUpUnderLoadChangesReadinessOnce(t *testing.T) {
	t.Parallel()
	dir := tmpfs.Mount(t, "4m")
	a := startKeeping(t, filepath.Join(dir, "data"), "HISTORY=1000000")
	ctx, stop := context.WithCancel(t.Context())
	var publishing sync.WaitGroup
	defer publishing.Wait()
	defer stop()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	defer client.CloseIdleConnections()
	for p := range 16 {
		publishing.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				body := fmt.Sprintf("%q", strings.Repeat("x", 1+(p+n)%16*200))
				request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL+"/sse", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				request.Header.Set("Authorization", "Bearer "+app.Token)
				request.Header.Set("Content-Type", "application/json")
				if response, err := client.Do(request); err == nil {
					_, _ = io.Copy(io.Discard, response.Body)
					response.Body.Close()
				}
			}
		})
	}
	ready, changes := true, 0
	look := func() {
		response, err := http.Get(a.URL + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if now := response.StatusCode == http.StatusOK; now != ready {
			ready, changes = now, changes+1
		}
	}
	for begin := time.Now(); changes == 0 || time.Since(begin) < *fullFor; <-time.After(20 * time.Millisecond) {
		if look(); changes == 0 && time.Since(begin) > testwait.Limit {
			t.Fatal("the disk has not filled up")
		}
	}
	if changes != 1 {
		t.Errorf("/readyz has changed %d times, want once", changes)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=512m"); err != nil { // more than HISTORY_BYTES needs
		t.Fatal(err)
	}
	a.Ready()
	stop()
	publishing.Wait()
	a.Out.Wait(t, "messages can be stored in DATA_DIR again")
	for _, line := range []string{"messages cannot be stored in DATA_DIR", "messages can be stored in DATA_DIR again"} {
		if lines := a.Out.Lines(line); len(lines) != 1 {
			t.Errorf("the log has %q", lines)
		}
	}
}

// disk is where a server keeps its messages.
type disk interface {
	data() string                      // the directory
	set(a *app.Server, bad bool) error // makes writing fail, or work again
	reason() string                    // what publishers are told meanwhile; empty if writing never fails
}

// sound is a disk that never fails.
type sound struct{ dir string }

func (d sound) data() string { return d.dir }

func (d sound) set(*app.Server, bool) error { return nil }

func (d sound) reason() string { return "" }

// full is a file system that has no room while it is bad.
type full struct{ dir string }

func (d full) data() string { return filepath.Join(d.dir, "data") }

func (d full) reason() string { return "no space left on device" }

func (d full) set(_ *app.Server, bad bool) error {
	if bad {
		return tmpfs.Fill(d.dir)
	}
	return tmpfs.Clear(d.dir)
}

// failing is a disk that fails writes beyond some place, in the middle of a transaction or of a page. Only a process
// that runs while it is made bad notices.
type failing struct{ dir string }

func (d failing) data() string { return d.dir }

func (d failing) reason() string { return "file too large" }

func (d failing) set(a *app.Server, bad bool) error {
	limit := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if bad {
		info, err := os.Stat(filepath.Join(d.dir, "gin-sse.db"))
		if err != nil {
			return err
		}
		limit.Cur = rand.Uint64N(uint64(info.Size()) / 2)
	}
	return unix.Prlimit(a.Cmd.Process.Pid, unix.RLIMIT_FSIZE, &limit, nil)
}

// loseNothing starts the server on a disk and kills it again and again, while 16 publishers repeat each message until it is
// acknowledged, and three clients resume: SharedEventSource in a browser, one like curl, and eventsource from npm. Each
// of them must get every message once, in order, without a gap. The disk is bad for half of the time.
func loseNothing(t *testing.T, d disk, pause time.Duration, size int) {
	npm := npm.Install(t)
	b := browser.Chromium(t)
	b.Offline.Store(true)
	env := []string{"DATA_DIR=" + d.data(), "PUBLISH_TOKEN=" + app.Token, "TICK_INTERVAL=0", "HISTORY=30000"}
	a := app.Start(t, env...)
	env = append(env, "PORT="+a.Port)
	page := b.Open(a.URL + "/status") // the list of messages would be too much for a browser on a busy machine

	ctx, stop := context.WithCancel(t.Context())
	var following, publishing sync.WaitGroup
	defer following.Wait()
	defer stop()
	clients := []*follower{{name: "SharedEventSource"}, {name: "one like curl"}, {name: "eventsource"}}
	for i, follow := range []func(*follower) error{
		func(f *follower) error { return followInPage(ctx, f, page) },
		func(f *follower) error { return followLikeCurl(ctx, f, a.URL+"/sse") },
		func(f *follower) error { return followWithNpm(ctx, f, npm, a.URL+"/sse") },
	} {
		ready := make(chan struct{})
		clients[i].ready = sync.OnceFunc(func() { close(ready) })
		following.Go(func() {
			if err := follow(clients[i]); err != nil && ctx.Err() == nil {
				t.Errorf("%s: %v", clients[i].name, err)
			}
			clients[i].ready()
		})
		<-ready
	}
	out := make(chan struct{})
	books := ledger{url: a.URL, acknowledged: map[int]string{}, refused: map[string]int{}}
	const publishers = 16
	for p := range publishers {
		publishing.Go(func() { books.publish(ctx, t, p, pause, size, out) })
	}
	finish := sync.OnceFunc(func() { close(out); publishing.Wait() })
	defer finish()
	defer stop()
	defer func() {
		if t.Failed() {
			last, _ := page.Try("document.getElementById('connection').textContent")
			t.Logf("the last number is %d; the page says %s; the last server said:\n%s", books.last(), last, a.Out.String())
			for _, client := range clients {
				t.Logf("%s has got %d messages", client.name, client.count())
			}
		}
	}()

	set := func(bad bool) {
		if err := d.set(a, bad); err != nil {
			t.Fatal(err)
		}
	}
	revive := func() {
		<-time.After(rand.N(100 * time.Millisecond))
		a.Stop(syscall.SIGKILL)
		a = app.Start(t, env...)
	}
	for n := range *kills {
		begin, last := time.Now(), books.last()
		for _, client := range clients { // they come back, and get something new
			client.await(t, last+1)
		}
		if d.reason() == "" {
			revive()
			continue
		}
		took := time.Since(begin)
		set(true)
		<-time.After(took)
		if killedWhileBad := n%2 == 0; killedWhileBad {
			revive()
			<-time.After(time.Second)
			set(false)
		} else {
			set(false)
			revive()
		}
	}
	finish()
	total := len(books.acknowledged)
	t.Logf("%d kills; %d messages acknowledged; not acknowledged at once: %v", *kills, total, books.refused)
	if want := "503 The event could not be stored: " + d.reason(); d.reason() != "" && books.refused[want] == 0 {
		t.Errorf("no publisher was told %q", want)
	}
	for _, client := range clients {
		client.await(t, books.last())
		client.check(t, books.acknowledged)
	}
}

// ledger is what publishers were answered.
type ledger struct {
	url string

	mu           sync.Mutex
	epoch        string
	acknowledged map[int]string // what each number belongs to
	refused      map[string]int // how often each reason was given
	highest      int
}

func (l *ledger) last() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.highest
}

// publish sends one message after the other, each until it is acknowledged, until out is closed.
func (l *ledger) publish(ctx context.Context, t *testing.T, publisher int, pause time.Duration, size int, out <-chan struct{}) {
	filling := strings.Repeat("x", size)
	for n := 0; ; n++ {
		select {
		case <-out:
			return
		case <-time.After(rand.N(2 * pause)):
		}
		what := fmt.Sprintf("%d,%d", publisher, n)
		for {
			id, reason := l.try(ctx, what, fmt.Sprintf("[%s,%q]", what, filling))
			if reason == "" {
				l.note(t, id, what)
				break
			}
			reason, _, _ = strings.Cut(reason, ". Send it again")
			l.mu.Lock()
			l.refused[reason]++
			l.mu.Unlock()
			if ctx.Err() != nil {
				return
			}
			<-time.After(20 * time.Millisecond)
		}
	}
}

// try publishes with a key, and returns the id or why there is none.
func (l *ledger) try(ctx context.Context, key, body string) (id, reason string) {
	ctx, cancel := context.WithTimeout(ctx, testwait.Limit)
	defer cancel()
	response, err := app.Post(ctx, l.url, key, body)
	if err != nil {
		return "", "no answer"
	}
	defer response.Body.Close()
	var answer struct{ ID, Error string }
	switch err := json.NewDecoder(response.Body).Decode(&answer); {
	case err != nil:
		return "", "no whole answer"
	case response.StatusCode != http.StatusAccepted:
		return "", fmt.Sprint(response.StatusCode, " ", answer.Error)
	}
	return answer.ID, ""
}

func (l *ledger) note(t *testing.T, id, what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	epoch, number := parseID(t, id)
	if l.epoch == "" {
		l.epoch = epoch
	}
	if before, used := l.acknowledged[number]; used || epoch != l.epoch {
		t.Errorf("the id of %q is %s, and %q has the same number in epoch %s", what, id, before, l.epoch)
	}
	l.acknowledged[number] = what
	l.highest = max(l.highest, number)
}

func parseID(t *testing.T, id string) (epoch string, number int) {
	epoch, digits, _ := strings.Cut(id, "-")
	number, err := strconv.Atoi(digits)
	if err != nil {
		t.Errorf("%q is no id", id)
	}
	return epoch, number
}

// follower is a client, and what it has got.
type follower struct {
	name  string
	ready func() // it has a stream

	mu   sync.Mutex
	ids  []string
	what []string
	gaps []string
}

// note notes an event.
func (f *follower) note(kind, id, data string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if kind != "message" {
		f.gaps = append(f.gaps, id+" "+data)
		return
	}
	what, _, _ := strings.Cut(strings.TrimPrefix(data, "["), `,"`)
	f.ids, f.what = append(f.ids, id), append(f.what, what)
}

func (f *follower) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.ids)
}

// await waits until the client has the message with that number.
func (f *follower) await(t *testing.T, number int) {
	t.Helper()
	for deadline := time.Now().Add(testwait.Limit); ; {
		f.mu.Lock()
		last := 0
		if len(f.ids) > 0 {
			_, last = parseID(t, f.ids[len(f.ids)-1])
		}
		f.mu.Unlock()
		if last >= number {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has got %d, want %d", f.name, last, number)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// check compares what the client has got with what was acknowledged.
func (f *follower) check(t *testing.T, acknowledged map[int]string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.gaps) > 0 {
		t.Errorf("%s was told of gaps: %q", f.name, f.gaps)
	}
	numbers := slices.Sorted(maps.Keys(acknowledged))
	for i, id := range f.ids {
		if _, number := parseID(t, id); i >= len(numbers) || number != numbers[i] || f.what[i] != acknowledged[number] {
			t.Fatalf("the message %d of %s is %s, %q; acknowledged was %q", i, f.name, id, f.what[i], acknowledged[number])
		}
	}
	if len(f.ids) != len(acknowledged) {
		t.Errorf("%s has got %d messages, and %d were acknowledged", f.name, len(f.ids), len(acknowledged))
	}
}

// followInPage follows with SharedEventSource.
func followInPage(ctx context.Context, f *follower, page *browser.Tab) error {
	_, err := page.Try(`import('/lib/shared-event-source.js').then(({ SharedEventSource }) => {
		window.got = [];
		const source = new SharedEventSource('/sse');
		const note = ({ type, lastEventId, data }) => got.push([type, lastEventId, data.slice(0, 30)]);
		source.onmessage = note;
		source.ongap = note;
		return new Promise((resolve) => source.onopen = resolve);
	}).then(() => true)`)
	if err != nil {
		return err
	}
	f.ready()
	for ctx.Err() == nil {
		got, err := page.Try(`window.got.splice(0)`)
		if err != nil {
			return err
		}
		var events [][3]string
		if err := json.Unmarshal(got, &events); err != nil {
			return err
		}
		for _, event := range events {
			f.note(event[0], event[1], event[2])
		}
		<-time.After(50 * time.Millisecond)
	}
	return nil
}

// followLikeCurl follows as a shell script with curl does, with the id of the last event.
func followLikeCurl(ctx context.Context, f *follower, url string) error {
	last := ""
	for ctx.Err() == nil {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		request.Header.Set("Last-Event-ID", last)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			<-time.After(50 * time.Millisecond) // the server is being started again
			continue
		}
		for event, err := range sse.Read(response.Body, nil) {
			if err != nil {
				break
			}
			last = event.LastEventID
			switch event.Type {
			case "position":
				f.ready()
			case "":
				f.note("message", last, event.Data)
			default:
				f.note(event.Type, last, event.Data)
			}
		}
		response.Body.Close()
	}
	return nil
}

// followWithNpm follows with the package eventsource, in that folder.
func followWithNpm(ctx context.Context, f *follower, folder, url string) error {
	cmd := child.Command(ctx, "node", "eventsource.mjs", url)
	cmd.Dir = folder
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = testwait.Limit
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return errors.Join(ignore(err, io.EOF), cmd.Wait())
		}
		kind, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		id, data, _ := strings.Cut(rest, " ")
		if kind == "open" {
			f.ready()
			continue
		}
		f.note(kind, id, data)
	}
}

// ignore returns the error unless it is that one.
func ignore(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

func TestStartOnAReadOnlyDiskIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	dir := tmpfs.Mount(t, "1m")
	data := filepath.Join(dir, "data")
	a := startKeeping(t, data)
	a.Publish(`"one"`)
	a.StopPolitely(syscall.SIGTERM)
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	refuses(t, dir, data, "gin-sse.db cannot be written: read-only file system; make it writable for this user")
	refuses(t, dir, filepath.Join(dir, "empty"), "cannot be written: read-only file system; choose a directory")
	refuses(t, dir, filepath.Join(dir, "missing"), "cannot be made: mkdir ")
}

func TestStartOnADiskThatFailsWritesIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := startKeeping(t, dir)
	a.Publish(`"one"`)
	a.StopPolitely(syscall.SIGTERM)
	before := testfiles.Snapshot(t, dir)
	cmd := app.Command(t, fmt.Sprint("PORT=", a.Port), "DATA_DIR="+dir)
	cmd.Args = []string{"sh", "-c", `ulimit -f 0 && exec "$0"`, cmd.Path}
	cmd.Path = "/bin/sh"
	out, _ := cmd.CombinedOutput()
	if want := fmt.Sprintf("gin-sse: DATA_DIR=%q cannot be written: file too large; look at the disk\n", dir); string(out) != want || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("exit status %d, and it said %q; want %q", cmd.ProcessState.ExitCode(), out, want)
	}
	if after := testfiles.Snapshot(t, dir); after != before {
		t.Errorf("after the start there is\n%s, and before there was\n%s", after, before)
	}
}

func TestFailingDiskIsReportedWhileStreamsGoOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := startKeeping(t, dir, "TICK_INTERVAL=50ms")
	stream := a.Get("/sse").Body
	a.Publish(`"one"`)
	testsse.ReadUntil(t, stream, `data:"one"`)
	none := unix.Rlimit{Cur: 0, Max: unix.RLIM_INFINITY} // bytes that a file may have
	if err := unix.Prlimit(a.Cmd.Process.Pid, unix.RLIMIT_FSIZE, &none, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		response, err := app.Post(t.Context(), a.URL, "key", `"two"`)
		if err != nil {
			t.Fatal(err)
		}
		text := testsse.ReadAll(t, response.Body)
		response.Body.Close()
		if want := "The event could not be stored: file too large."; response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(text, want) || response.Header.Get("Retry-After") == "" {
			t.Errorf("POST has status %d and %s, want %q", response.StatusCode, text, want)
		}
	}
	if text := a.AwaitStatus("/readyz", http.StatusServiceUnavailable); !strings.Contains(text, "file too large") {
		t.Errorf("/readyz says %s", text)
	}
	if text := a.AwaitStatus("/healthz", http.StatusOK); !strings.Contains(text, `"degraded":"file too large"`) {
		t.Errorf("/healthz says %s", text)
	}
	testsse.ReadUntil(t, stream, "Server Time: ")
	testsse.ReadUntil(t, a.Get("/sse?lastEventId=earliest").Body, `data:"one"`)

	if err := (failing{dir}).set(a, false); err != nil {
		t.Fatal(err)
	}
	a.Ready()
	response, err := app.Post(t.Context(), a.URL, "key", `"two"`)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		t.Errorf("when the disk works again, POST has status %d", response.StatusCode)
	}
	testsse.ReadUntil(t, stream, `data:"two"`)
	a.Out.Wait(t, "messages can be stored in DATA_DIR again")
	if lines := a.Out.Lines("messages cannot be stored in DATA_DIR: file too large; POST /sse answers 503 until they can"); len(lines) != 1 {
		t.Errorf("the log has %q", lines)
	}
}

func TestAStartOnAFullDiskIsNotReadyUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	d := full{tmpfs.Mount(t, "8m")}
	before := startKeeping(t, d.data())
	before.Publish(`"one"`)
	before.Stop(syscall.SIGTERM)
	if err := d.set(nil, true); err != nil {
		t.Fatal(err)
	}
	a := startKeeping(t, d.data())
	response := a.Get("/readyz")
	if text := testsse.ReadAll(t, response.Body); response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(text, d.reason()) {
		t.Errorf("right after the start, /readyz is answered with %s, %s", response.Status, text)
	}
	testsse.ReadUntil(t, a.Get("/sse?lastEventId=earliest").Body, `data:"one"`)
	if err := d.set(nil, false); err != nil {
		t.Fatal(err)
	}
	a.Ready()
	a.Publish(`"two"`)
}
