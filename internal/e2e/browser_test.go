package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// driver is a running browser, and window is one of its tabs. Methods of a driver and of different
// windows may be called at the same time.
type driver interface {
	open(url string) (window, error)
	end()
}

type window interface {
	evaluate(expression string) (json.RawMessage, error) // waits for a promise
	navigate(url string) error
	resize(width, height int) error
	close() error // as its user does
}

// engine is a browser that tests share: a server of its own gives each test an origin of its own, with
// locks, channels, connections and storage that no other test sees.
type engine struct {
	name  string
	start func(testing.TB) (driver, error)

	once    sync.Once
	running driver
	err     error
}

var engines = []*engine{
	{name: "Chromium", start: startChromium},
	{name: "Firefox", start: startFirefox},
	{name: "WebKit", start: startWebKit},
}

func endBrowsers() {
	for _, engine := range engines {
		if engine.running != nil {
			engine.running.end()
		}
	}
}

// notInstalled is the error of a program that a test needs: its name, and the package that has it.
type notInstalled struct{ program, packages string }

func (e notInstalled) Error() string {
	return fmt.Sprintf("%s is not installed (apt-get install %s)", e.program, e.packages)
}

// inEachBrowser runs a test in all of them. One that is not installed is skipped, but not where CI=true.
func inEachBrowser(t *testing.T, test func(t *testing.T, b *browser)) {
	t.Helper()
	for _, engine := range engines {
		t.Run(engine.name, func(t *testing.T) {
			t.Parallel()
			test(t, engine.use(t))
		})
	}
}

func (e *engine) use(t *testing.T) *browser {
	t.Helper()
	long(t)
	e.once.Do(func() { e.running, e.err = e.start(t) })
	var absent notInstalled
	if errors.As(e.err, &absent) {
		missing(t, absent.program, "apt-get install "+absent.packages)
	}
	if e.err != nil {
		t.Fatal(e.err)
	}
	return &browser{t: t, name: e.name, driver: e.running}
}

// browse is for a test that needs what only Chromium can do. Anything that a page writes to the console
// as an error or a warning, throws, or violates of its Content-Security-Policy, fails the test.
func browse(t *testing.T) *browser {
	t.Helper()
	return engines[0].use(t)
}

// browser is what one test does with a driver.
type browser struct {
	t       *testing.T
	name    string
	driver  driver
	offline atomic.Bool // the server may be out of reach, which the browser writes to the console
}

// tab is one page in a browser. Its methods may be used from one goroutine at a time.
type tab struct {
	t      *testing.T
	window window
	closed bool
}

// open loads an address in a new tab, which is closed when the test ends.
func (b *browser) open(url string) *tab {
	b.t.Helper()
	var w window
	var err error
	if c, ok := b.driver.(*chromium); ok {
		w, err = c.openFor(b, url)
	} else {
		w, err = b.driver.open(url)
	}
	if err != nil {
		b.t.Fatalf("open %s in %s: %v", url, b.name, err)
	}
	p := &tab{t: b.t, window: w}
	b.t.Cleanup(func() {
		if !p.closed {
			_ = w.close() // may have crashed
		}
	})
	return p
}

// close closes the tab as its user does.
func (p *tab) close() {
	p.t.Helper()
	p.closed = true
	if err := p.window.close(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *tab) navigate(url string) {
	p.t.Helper()
	if err := p.window.navigate(url); err != nil {
		p.t.Fatal(err)
	}
}

// until waits until the JavaScript expression is true, also across a change to another page.
func (p *tab) until(expression string) {
	p.t.Helper()
	deadline := time.Now().Add(3 * patience)
	for {
		value, err := p.window.evaluate("(" + expression + ")")
		if string(value) == "true" {
			return
		}
		if time.Now().After(deadline) {
			text, _ := p.window.evaluate("document.body.innerText")
			p.t.Fatalf("%s: not true in time (%s, %v); the page shows:\n%s", expression, value, err, text)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// evaluate returns the value of a JavaScript expression, or of the promise that it is.
func evaluate[T any](p *tab, expression string) (value T) {
	p.t.Helper()
	answer, err := p.window.evaluate(expression)
	if err == nil && len(answer) > 0 {
		err = json.Unmarshal(answer, &value)
	}
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// run executes statements in the page.
func (p *tab) run(statements string) {
	p.t.Helper()
	if _, err := p.window.evaluate("(() => {" + statements + "})()"); err != nil {
		p.t.Fatalf("%s: %v", statements, err)
	}
}

// picture writes a screenshot where they are asked for.
func (p *tab) picture(name string) {
	p.t.Helper()
	folder := os.Getenv("SCREENSHOTS")
	if folder == "" {
		return
	}
	picture, err := p.chromium().picture()
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o644)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// missing ends a test that needs a program which is not there.
func missing(t *testing.T, what, get string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("this test needs %s: %s", what, get)
	}
	t.Skipf("this test needs %s: %s", what, get)
}

// npm returns a folder with the packages of testdata.
func npm(t *testing.T) string {
	t.Helper()
	long(t)
	program, err := exec.LookPath("npm")
	if err != nil {
		missing(t, "npm", "install it (apt-get install npm)")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	install := exec.CommandContext(ctx, program, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		missing(t, "packages from npm", fmt.Sprintf("connect to npm's registry, which npm ci could not reach: %v\n%s", err, out))
	}
	return dir
}

// chromium is driven over its own protocol, which can do more than WebDriver: crash a tab, freeze it, and
// report everything on its console.
type chromium struct {
	ctx  context.Context
	stop func()
}

func (c *chromium) end() { c.stop() }

func startChromium(testing.TB) (driver, error) {
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		return nil, notInstalled{"Chromium", "chromium"}
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program),
		chromedp.Flag("no-sandbox", true), // which needs privileges that containers lack
		chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("no-first-run", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
	)
	allocator, release := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, end := chromedp.NewContext(allocator)
	c := &chromium{ctx, func() { end(); release() }}
	if err := chromedp.Do(ctx); err != nil {
		c.stop()
		return nil, fmt.Errorf("start Chromium: %w", err)
	}
	return c, nil
}

func (c *chromium) open(url string) (window, error) { return c.openFor(nil, url) }

// openFor opens a tab whose console is the test's.
func (c *chromium) openFor(b *browser, url string) (window, error) {
	ctx, end := chromedp.NewContext(c.ctx, chromedp.WithListener(func(event any) {
		if b != nil {
			b.complain(event)
		}
	}))
	if err := chromedp.Do(ctx); err != nil { // makes the tab
		end()
		return nil, err
	}
	w := &chromiumWindow{ctx, end}
	return w, w.navigate(url)
}

// private returns the same browser with cookies of its own, if it is Chromium. In the others, all ports of localhost share
// them, so tests that run at the same time must name theirs differently or use another host.
func (b *browser) private() *browser {
	b.t.Helper()
	c, ok := b.driver.(*chromium)
	if !ok {
		return b
	}
	ctx, end := chromedp.NewContext(c.ctx, chromedp.WithNewBrowserContext())
	b.t.Cleanup(end)
	if err := chromedp.Do(ctx); err != nil {
		b.t.Fatalf("make a private window: %v", err)
	}
	other := &browser{t: b.t, name: b.name, driver: &chromium{ctx, end}}
	other.offline.Store(b.offline.Load())
	return other
}

func (b *browser) complain(event any) {
	switch event := event.(type) {
	case *runtime.EventExceptionThrown:
		b.t.Errorf("the page threw: %v", &chromedp.ExceptionError{ExceptionDetails: event.ExceptionDetails})
	case *runtime.EventConsoleAPICalled:
		if event.Type == runtime.ConsoleAPICalledTypeError || event.Type == runtime.ConsoleAPICalledTypeWarning {
			b.t.Errorf("console.%s with %s", event.Type, event.Args[0].Value)
		}
	case *log.EventEntryAdded:
		entry := event.Entry
		if entry.Source == log.EntrySourceNetwork && b.offline.Load() {
			return
		}
		if entry.Level == log.EntryLevelError || entry.Level == log.EntryLevelWarning {
			b.t.Errorf("the console shows a %s %s: %s (%s)", entry.Source, entry.Level, entry.Text, entry.URL)
		}
	}
}

type chromiumWindow struct {
	ctx context.Context
	end func()
}

func (w *chromiumWindow) do(steps ...chromedp.Action[chromedp.Void]) error {
	ctx, cancel := context.WithTimeout(w.ctx, 3*patience)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.Steps(steps...))
	return err
}

func (w *chromiumWindow) navigate(url string) error { return w.do(chromedp.Navigate(url)) }

func (w *chromiumWindow) resize(width, height int) error {
	return w.do(chromedp.EmulateViewport(int64(width), int64(height), chromedp.EmulateScale(2)))
}

func (w *chromiumWindow) close() error {
	w.end()
	return nil
}

func (w *chromiumWindow) evaluate(expression string) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(w.ctx, 3*patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[[]byte](expression, chromedp.EvalAwaitPromise))
	return value, err
}

func (w *chromiumWindow) picture() ([]byte, error) {
	ctx, cancel := context.WithTimeout(w.ctx, 3*patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.CaptureScreenshot())
}

// chromium is the tab of a test that runs in Chromium alone.
func (p *tab) chromium() *chromiumWindow { return p.window.(*chromiumWindow) }

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := p.chromium().do(steps...); err != nil {
		p.t.Fatalf("in the browser: %v", err)
	}
}

// crash kills the process of the tab.
func (p *tab) crash() {
	ctx, cancel := context.WithTimeout(p.chromium().ctx, patience)
	p.t.Cleanup(cancel)
	go chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, page.Crash, cdp.Empty{})
		return err // never comes
	}))
}
