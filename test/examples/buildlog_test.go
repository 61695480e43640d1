package examples

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"

	"gin-sse/internal/testlog"
	"gin-sse/internal/testsse"
	"gin-sse/test/internal/app"
	"gin-sse/test/internal/browser"
	"gin-sse/test/internal/child"
	"gin-sse/test/internal/need"
)

// buildLogs is docs/examples/build-log beside its push server.
type buildLogs struct {
	t    *testing.T
	root string // a copy of the project, as far as they need it
	push *app.Server
	env  []string // of the push server
}

func startBuildLogs(t *testing.T, env ...string) *buildLogs {
	t.Helper()
	need.Program(t, "bash")
	need.Program(t, "curl")
	x := &buildLogs{t: t, root: t.TempDir()}
	for _, folder := range []string{"public", "docs/examples/build-log"} {
		if err := os.CopyFS(filepath.Join(x.root, folder), os.DirFS(filepath.Join("..", "..", folder))); err != nil {
			t.Fatal(err)
		}
	}
	copied := child.Command(t.Context(), "sh", "-c", inREADME(t, "build-log", "cp -r docs/examples/build-log/builds public/"))
	copied.Dir = x.root
	if out, err := copied.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	started, words := settings(inREADME(t, "build-log", "PUBLISH_TOKEN=secret go run main.go"))
	if got := strings.Join(words, " "); got != "go run main.go" {
		t.Fatalf("the push server is started with %q", got)
	}
	x.env = slices.Concat(started, []string{"GIN_MODE=debug"}, env)
	x.push = app.StartIn(t, x.root, x.env...)
	return x
}

// page opens the log of a build.
func (x *buildLogs) page(b *browser.Browser, number string) *browser.Tab {
	x.t.Helper()
	return b.Open(x.push.URL + "/builds/?" + number)
}

// build is a command that is running under publish.sh.
type build struct {
	t      *testing.T
	cmd    *exec.Cmd
	input  io.WriteCloser
	out    *testlog.Log // its standard output
	errors *testlog.Log
	wait   func() error
}

// run runs a script in the shell as the README runs build.sh. It is killed when the test ends.
func (x *buildLogs) run(number, script string) *build {
	x.t.Helper()
	return x.start(number, "sh", "-c", script)
}

func (x *buildLogs) start(number string, args ...string) *build {
	x.t.Helper()
	command := inREADME(x.t, "build-log", "PUBLISH_TOKEN=secret docs/examples/build-log/publish.sh 42 docs/examples/build-log/build.sh")
	env, words := settings(command)
	cmd := child.Command(context.Background(), words[0], append([]string{number}, args...)...)
	cmd.Dir = x.root
	cmd.Env = append(env, "PATH="+os.Getenv("PATH"), "PUSH_URL="+x.push.URL)
	cmd.SysProcAttr.Setpgid = true // as a terminal does
	r := &build{t: x.t, cmd: cmd, out: new(testlog.Log), errors: new(testlog.Log)}
	cmd.Stdout, cmd.Stderr = r.out, r.errors
	var err error
	if r.input, err = cmd.StdinPipe(); err != nil {
		x.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	r.wait = sync.OnceValue(cmd.Wait)
	x.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			r.signal(syscall.SIGKILL)
			_ = r.wait() // it was killed
		}
		if x.t.Failed() {
			x.t.Logf("build %s said:\n%s%s", number, last(r.out.String(), 3000), last(r.errors.String(), 3000))
		}
	})
	return r
}

// signal reaches all processes of the build, as Ctrl-C does.
func (r *build) signal(signal syscall.Signal) {
	r.t.Helper()
	if err := syscall.Kill(-r.cmd.Process.Pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		r.t.Errorf("signal the build: %v", err)
	}
}

func (r *build) write(lines ...string) {
	r.t.Helper()
	write(r.t, r.input, strings.Join(lines, "\n")+"\n")
}

func write(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

// end ends the input of the build, and returns its exit code.
func (r *build) end() int {
	r.t.Helper()
	if err := r.input.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		r.t.Fatal(err)
	}
	var failed *exec.ExitError
	if err := r.wait(); err != nil && !errors.As(err, &failed) {
		r.t.Fatal(err)
	}
	return r.cmd.ProcessState.ExitCode()
}

const buildState = "document.querySelector('output').value"

// rows is the text that a log shows.
const rows = "document.querySelector('main').textContent"

// wantsLog waits until the log is as it should be.
func wantsLog(p *browser.Tab, lines ...string) {
	p.T.Helper()
	p.Until(fmt.Sprintf("%s === %s", rows, inJavaScript(strings.Join(lines, "\n")+"\n")))
}

func wantsState(p *browser.Tab, text string) {
	p.T.Helper()
	p.Until(fmt.Sprintf("%s.startsWith(%s) && document.title.startsWith(%[2]s)", buildState, inJavaScript(text)))
}

func inJavaScript(text string) string {
	encoded, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string is always encoded
	}
	return string(encoded)
}

func TestABuildsLogIsShownFromItsFirstLineAndThenAsItIsWritten(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		x := startBuildLogs(t)
		early := x.page(b, "42")
		wantsState(early, "Waiting for the first line")
		build := x.run("42", "cat; exit 3")
		build.write("first", "", "  third")
		middle := b.Open(strings.Replace(x.push.URL, "localhost", "127.0.0.1", 1) + "/builds/?42") // has a connection of its own
		want := []string{"$ sh -c cat; exit 3", "first", "", "  third"}
		for range 3 {
			for _, p := range []*browser.Tab{early, middle} {
				wantsLog(p, want...)
				wantsState(p, "Running")
			}
			build.write("more")
			want = append(want, "more")
		}
		if code := build.end(); code != 3 || build.out.String() != "first\n\n  third\nmore\nmore\nmore\n" {
			t.Errorf("publish.sh ended with %d and said %q", code, build.out.String())
		}
		for _, p := range []*browser.Tab{early, middle, x.page(b, "42")} {
			wantsLog(p, want...)
			wantsState(p, "Failed with exit code 3 after ")
		}
	})
}

func TestABuildsLogSaysHowItEnded(t *testing.T) {
	t.Parallel()
	x := startBuildLogs(t)
	b := browser.Chromium(t)
	b.Offline.Store(true) // at the end
	for name, test := range map[string]struct {
		script string
		signal syscall.Signal
		code   int
		state  string
	}{
		"good":          {"cat", 0, 0, "Succeeded after "},
		"bad":           {"cat; exit 2", 0, 2, "Failed with exit code 2 after "},
		"ctrl-c":        {"cat", syscall.SIGINT, 130, "Failed with exit code 130 after "},
		"terminated":    {"cat", syscall.SIGTERM, 143, "Failed with exit code 143 after "},
		"unknown":       {"no-such-command-here", 0, 127, "Failed with exit code 127 after "},
		"out-of-memory": {"kill -9 $$", 0, 137, "Failed with exit code 137 after "},
	} {
		p := x.page(b, name)
		build := x.run(name, test.script)
		if test.signal != 0 {
			build.write("a line")
			wantsLog(p, "$ sh -c "+test.script, "a line")
			build.signal(test.signal)
		}
		if code := build.end(); code != test.code {
			t.Errorf("%s: exit code %d, want %d", name, code, test.code)
		}
		wantsState(p, test.state)
	}

	// The machine is gone, and with it everybody who could say how the build ended.
	gone := x.run("gone", "cat")
	gone.write("the last line")
	p := x.page(b, "gone")
	wantsLog(p, "$ sh -c cat", "the last line")
	gone.signal(syscall.SIGKILL)
	p.Run("const now = Date.now; Date.now = () => now() + 180_500;")
	p.Until("document.querySelector('small').textContent.startsWith('No line for 3 min')")
	wantsState(p, "Running")

	// Without publish.sh there is no exit code.
	plain := child.Command(t.Context(), "curl", "-sST", "-", "-X", "POST", "-H", "Authorization: Bearer secret", "-H", "Content-Type: text/plain", x.push.URL+"/sse?topic=builds/plain&end=true")
	plain.Stdin = strings.NewReader("a line\n")
	if out, err := plain.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), `{"events":1,`) {
		t.Fatalf("%v: %s", err, out)
	}
	p = x.page(b, "plain")
	wantsState(p, "Ended without an exit code")
	wantsLog(p, "[The beginning was not published, or is no longer kept]", "a line")

	b.Offline.Store(true)
	p = x.page(b, "no+such+name")
	wantsState(p, `"builds/no+such+name" is no topic`)
}

func TestTheListHasEachBuildOnceAndSaysHowItEnded(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		x := startBuildLogs(t)
		list := x.page(b, "")
		list.Until(buildState + " === 'There is none yet' && document.title === 'Builds'")
		for number, script := range []string{"cat", "cat; exit 3"} {
			build := x.run(fmt.Sprint(number), script)
			build.write("a line", "another")
			build.end()
		}
		running := x.run("2", "cat")
		running.write("a line")
		const builds = "[...document.querySelectorAll('li')].map((row) => `${row.children[0].textContent}: ${row.children[1].value}`.replace(/ after .*/, '')).join()"
		want := builds + " === '2: Running,1: Failed with exit code 3,0: Succeeded' && " + buildState + " === ''"
		list.Until(want)
		late := b.Private().Open(x.push.URL + "/builds/")
		late.Until(want)
		if marks := browser.Evaluate[int](list, "new Set([...document.querySelectorAll('li output')].map((state) => getComputedStyle(state, '::before').content)).size"); marks != 3 {
			t.Errorf("the three states have %d marks", marks)
		}
		late.Run("document.querySelector('li a').click()")
		wantsState(late, "Running")
		wantsLog(late, "$ sh -c cat", "a line")
		running.end()
		wantsState(late, "Succeeded")
	})
}

func TestABuildsLogShowsColoursAndDropsOtherSequencesAndIsNeverMarkup(t *testing.T) {
	t.Parallel()
	tests := []struct{ line, want string }{ // want has {text|marks|colours} for each piece of another style
		{"plain", "plain"},
		{"\x1b[31mred\x1b[0m and \x1b[1;92mbold\x1b[m", "{red|fg|--fg: var(--c1);} and {bold|bold fg|--fg: var(--c10);}"},
		{"\x1b[2mdim\x1b[22m \x1b[3;4mboth\x1b[23m line\x1b[24m \x1b[7minverse\x1b[27m", "{dim|dim|} {both|italic underline|}{ line|underline|} {inverse|inverse|}"},
		{"\x1b[37;41mfail\x1b[39m!\x1b[49m \x1b[107;30mpass\x1b[0m", "{fail|fg bg|--fg: var(--c7); --bg: var(--c1);}{!|bg|--bg: var(--c1);} {pass|bg fg|--fg: var(--c0); --bg: var(--c15);}"},
		{"\x1b[38;5;9m9\x1b[38;5;16m16\x1b[38;5;110m110\x1b[38;5;231m231\x1b[38;5;232m232\x1b[48;5;255m255\x1b[m", "{9|fg|--fg: var(--c9);}{16|fg|--fg: rgb(0,0,0);}{110|fg|--fg: rgb(135,175,215);}{231|fg|--fg: rgb(255,255,255);}{232|fg|--fg: rgb(8,8,8);}{255|fg bg|--fg: rgb(8,8,8); --bg: rgb(238,238,238);}"},
		{"\x1b[1;38;2;1;20;255;4mtrue\x1b[m", "{true|bold fg underline|--fg: rgb(1,20,255);}"},
		{"\x1b[33mit holds", "{it holds|fg|--fg: var(--c3);}"},
		{"until\x1b[m here", "{until|fg|--fg: var(--c3);} here"},
		{"<img src=x onerror=alert(1)> &amp; <script>alert(1)</script>", "<img src=x onerror=alert(1)> &amp; <script>alert(1)</script>"},
		{"\x1b[38;2;\"><b>m and \x1b[1;<i>x", ">m and >x"},
		{"\x1b[38;5m\x1b[38mx\x1b[m", "{x|fg|--fg: rgb(NaN,NaN,NaN);}"},
		{"\x1b[2K\x1b[1Aerased\x1b[?25l\x1b[>4;2m\x1b[4:3m.\x1b(B\x1b7\x1b=", "erased."},
		{"\x1b]0;title\x07a \x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\ \x1bPdevice\x1b\\\x1b_app\x1b\\b\x1b]open", "a link b"},
		{"be\x07ll\x00\x08\x7f \u009b31mred\u009b0m\u0085 tab\there", "bell red tab\there"},
		{"10 %\r20 %\r\x1b[32m100 %\x1b[0m\x1b[K", "{100 %|fg|--fg: var(--c2);}"},
		{"done\r", "done"},
		{"done\r\x1b[K\x1b[0m", "done"},
		{"\x1b[31m10 %\r20 %\x1b[0m", "{20 %|fg|--fg: var(--c1);}"},
		{"", ""},
		{"  ünïcödé 🙂 \u202eשלום\u202c", "  ünïcödé 🙂 \u202eשלום\u202c"},
		{"\xe4\xf6 is Latin-1", "\ufffd\ufffd is Latin-1"},
		{strings.Repeat("\x1b]", 5000) + "\x07" + strings.Repeat("\x1b[", 5000) + strings.Repeat("\x1b[1;", 3000) + "\x1b[" + strings.Repeat("0;", 5000) + "mx", "x"},
	}
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		x := startBuildLogs(t)
		p := x.page(b, "colours")
		build := x.run("colours", "cat")
		for _, test := range tests {
			build.write(test.line)
		}
		build.write(strings.Repeat("long ", 30_000)) // longer than an event may be
		if code := build.end(); code != 0 {
			t.Fatalf("exit code %d", code)
		}
		wantsState(p, "Succeeded")
		p.Until(rows + ".endsWith('long \\n')")
		got := browser.Evaluate[[]string](p, `[...document.querySelector('main').children].map((row) => [...row.children].filter((span) => span.textContent).map((span) => {
			const style = span.getAttribute('style') ?? '';
			return span.className || style ? '{' + span.textContent + '|' + span.className + '|' + style + '}' : span.textContent;
		}).join(''))`)
		if len(got) < 1+len(tests) {
			t.Fatalf("the page has %d rows", len(got))
		}
		for n, test := range tests {
			if got[n+1] != test.want {
				t.Errorf("%.100q is shown as\n%q, want\n%q", test.line, got[n+1], test.want)
			}
		}
		if long := strings.Join(got[1+len(tests):], ""); long != strings.Repeat("long ", 30_000) {
			t.Errorf("of a long line, the page shows %d characters", len(long))
		}
		if n := browser.Evaluate[int](p, "document.querySelectorAll('main :not(div, span)').length"); n != 0 {
			t.Errorf("%d elements are neither rows nor pieces of one", n)
		}
		if ink := browser.Evaluate[string](p, "getComputedStyle(document.body).color"); browser.Evaluate[string](p, "getComputedStyle(document.querySelector('.fg')).color") == ink {
			t.Errorf("a colour is shown as %s, as all text is", ink)
		}
	})
}

// atEnd tells whether the last row can be seen.
const atEnd = "document.querySelector('main').lastElementChild.getBoundingClientRect().bottom <= innerHeight && document.querySelector('button').hidden"

func TestABuildsLogFollowsItsEndUnlessTheReaderScrolledUp(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		x := startBuildLogs(t, "HISTORY=20000")
		p := x.page(b, "1")
		p.Resize(600, 400)
		build := x.run("1", "cat")
		n := 0
		more := func(lines int) {
			t.Helper()
			var all []string
			for range lines {
				n++
				all = append(all, fmt.Sprint("line ", n, strings.Repeat(" and more", 6)))
			}
			build.write(all...)
			p.Until(fmt.Sprintf("%s.includes('line %d ')", rows, n))
		}
		wantsEnd := func() {
			t.Helper()
			p.Until(atEnd)
		}
		more(100)
		wantsEnd()
		more(1)
		wantsEnd()

		p.Run("scrollTo(0, 300)")
		more(50)
		p.Until("!document.querySelector('button').hidden")
		if at := browser.Evaluate[float64](p, "scrollY"); at != 300 {
			t.Errorf("the reader was at 300, and is at %v", at)
		}
		p.Run("scrollTo(0, document.documentElement.scrollHeight)")
		more(50)
		wantsEnd()

		p.Run("scrollTo(0, 0)")
		more(1)
		p.Run("document.querySelector('button').click()")
		wantsEnd()
		more(1)
		wantsEnd()
		if b.Name != "WebKit" { // which does not show the window, and so does not tell the page
			p.Resize(400, 600)
			wantsEnd()
		}
		more(11_000)
		wantsEnd()
		p.Until("document.querySelector('main').childElementCount <= 10_001 && " + rows + ".startsWith('[Earlier lines are not shown]\\nline ')")
		build.end()
		wantsState(p, "Succeeded")
		wantsEnd()
	})
}

func TestABuildsLogSaysThatItsBeginningIsNoLongerKept(t *testing.T) {
	t.Parallel()
	x := startBuildLogs(t, "HISTORY=3")
	b := browser.Chromium(t)
	whole := x.page(b, "7")
	wantsState(whole, "Waiting for the first line")
	build := x.run("7", "cat")
	build.write("1", "2", "3", "4")
	wantsLog(whole, "$ sh -c cat", "1", "2", "3", "4")
	late := b.Private().Open(x.push.URL + "/builds/?7")
	wantsLog(late, "[The beginning was not published, or is no longer kept]", "2", "3", "4")
	build.write("5")
	wantsLog(late, "[The beginning was not published, or is no longer kept]", "2", "3", "4", "5")
	build.end()
	wantsLog(whole, "$ sh -c cat", "1", "2", "3", "4", "5")
}

func TestABuildsLogGoesOnAfterThePushServerWasKilled(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	x := startBuildLogs(t, "DATA_DIR="+data)
	b := browser.Chromium(t)
	b.Offline.Store(true)
	p := x.page(b, "42")
	build := x.run("42", "cat")
	build.write("before")
	wantsLog(p, "$ sh -c cat", "before")
	x.push.Stop(syscall.SIGKILL)
	wantsState(p, "Connection lost")
	build.write("on the way 1") // curl learns that nobody reads this
	x.push = app.StartIn(t, x.root, append(x.env, "PORT="+x.push.Port)...)
	build.write("on the way 2") // and at this, that it cannot send any more
	const away = "[The push server was away: lines may be missing here]"
	p.Until(fmt.Sprintf("%s.includes('%s')", rows, away))
	build.write("after")
	if code := build.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, p := range []*browser.Tab{p, b.Private().Open(x.push.URL + "/builds/?42")} {
		wantsState(p, "Succeeded")
		p.Until(rows + ".endsWith('after\\n')")
		shown := browser.Evaluate[string](p, rows)
		for _, lost := range []string{"on the way 1\n", "on the way 2\n"} { // at most
			shown = strings.Replace(shown, lost, "", 1)
		}
		if want := "$ sh -c cat\nbefore\n" + away + "\nafter\n"; shown != want {
			t.Errorf("the page shows %q, want %q", shown, want)
		}
	}
}

func TestABuildEndsAsItDoesWithoutAPushServer(t *testing.T) {
	t.Parallel()
	x := startBuildLogs(t)
	run := func(name, number, reason string) {
		t.Helper()
		build := x.run(number, "seq 100000; echo an error >&2; exit 5")
		if code := build.end(); code != 5 || len(build.out.Lines("")) < 100_000 || !strings.Contains(build.errors.String(), reason) {
			t.Errorf("%s: exit code %d, %d lines, and %q", name, code, len(build.out.Lines("")), build.errors.String())
		}
	}
	run("no problem", "1", "The log is at "+x.push.URL+"/builds/?1\n")
	run("an ended log", "1", "This topic has ended.")
	run("a name that cannot be used", "1&2", "Not published: {")

	build := x.run("2", "cat; seq 100000; exit 6") // more than pipes hold
	build.write("a line")
	testsse.ReadUntil(t, x.push.Get("/sse?topic=builds/2&lastEventId=earliest").Body, "a line")
	x.push.Stop(syscall.SIGKILL)
	run("nobody is there", "3", "Not published:")
	if code := build.end(); code != 6 || len(build.out.Lines("")) != 100_001 {
		t.Errorf("the push server went away: exit code %d, %d lines, and %q", code, len(build.out.Lines("")), build.errors.String())
	}
}

func TestEachOf200BuildsLogsHasItsOwnLinesOnly(t *testing.T) {
	t.Parallel()
	const builds = 200
	x := startBuildLogs(t)
	b := browser.Chromium(t)
	gate := filepath.Join(x.root, "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	steps, err := os.OpenFile(gate, os.O_RDWR, 0) // each line of it lets one build go on
	if err != nil {
		t.Fatal(err)
	}
	defer steps.Close()

	lines := func(n int) (all []string) {
		for line := range 15 {
			all = append(all, fmt.Sprintf("build %d has line %d", n, line))
		}
		return all
	}
	script := func(n int) string {
		return fmt.Sprintf(`line=0; for step in 1 2 3; do read -r _ < gate; for _ in 1 2 3 4 5; do echo "build %d has line $line"; line=$((line+1)); done; done; exit %d`, n, n%3)
	}
	shown := []int{1, 50, 100, 150, 200} // a browser has six connections to a server
	var pages []*browser.Tab
	for _, n := range shown {
		pages = append(pages, x.page(b, fmt.Sprint(n)))
	}
	var running []*build
	var streams [builds + 1]string
	var reading sync.WaitGroup
	for n := 1; n <= builds; n++ {
		stream := x.push.Get(fmt.Sprintf("/sse?topic=builds/%d&lastEventId=earliest", n)).Body // what its page asks for
		reading.Go(func() {
			text, err := io.ReadAll(stream) // until the build ends
			if err != nil {
				t.Errorf("the stream of build %d: %v", n, err)
			}
			streams[n] = string(text)
		})
		running = append(running, x.run(fmt.Sprint(n), script(n)))
	}
	for _, build := range running {
		build.errors.Wait(t, "The log is at ")
	}
	write(t, steps, strings.Repeat("\n", 3*builds))
	for i, build := range running {
		if code := build.end(); code != (i+1)%3 {
			t.Errorf("build %d ended with %d", i+1, code)
		}
	}
	reading.Wait()

	for n := 1; n <= builds; n++ {
		var got []string
		for line := range strings.Lines(streams[n]) {
			var event struct{ Command, Message, Code string }
			if data, found := strings.CutPrefix(line, "data:"); found {
				if err := json.Unmarshal([]byte(data), &event); err != nil {
					t.Fatal(err)
				}
				got = append(got, event.Command+event.Message+event.Code)
			}
		}
		want := slices.Concat([]string{"", "sh -c " + script(n)}, lines(n), []string{fmt.Sprint(n % 3)})
		if !slices.Equal(got, want) {
			t.Errorf("the stream of build %d has %q, want %q", n, got, want)
		}
	}
	for i, n := range shown {
		wantsLog(pages[i], append([]string{"$ sh -c " + script(n)}, lines(n)...)...)
		wantsState(pages[i], []string{"Succeeded", "Failed with exit code 1 ", "Failed with exit code 2 "}[n%3])
	}
}

func TestABuildsLogFitsEveryScreenAndSchemeAndPassesAxe(t *testing.T) {
	t.Parallel()
	x := startBuildLogs(t)
	axe := browser.Axe(t)
	b := browser.Chromium(t)
	p := x.page(b, "42")
	wantsState(p, "Waiting for the first line")
	p.Do(browser.Prefer("light"), chromedp.EmulateViewport(700, 420, chromedp.EmulateScale(2)))
	build := x.start("42", "docs/examples/build-log/build.sh")
	p.Until(rows + ".includes('PASS')")
	p.Picture("build-log")
	build.end()
	wantsState(p, "Succeeded after ")
	p.Check("build-log-succeeded", axe)

	build = x.start("43", "docs/examples/build-log/build.sh", "2")
	p.Navigate(x.push.URL + "/builds/?43")
	build.end()
	wantsState(p, "Failed with exit code 2 after ")
	p.Resize(320, 400)
	p.Until("(scrollTo(0, 0), !document.querySelector('button').hidden)") // the page may still follow the new size
	p.Check("build-log-failed", axe)
	list := x.page(b, "")
	list.Until("document.querySelectorAll('li').length === 2")
	list.Check("build-log-list", axe)
}
