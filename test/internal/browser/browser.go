// Package browser drives Chromium, Firefox and WebKit, which all tests of a package share.
package browser

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gin-sse/internal/testwait"
	"gin-sse/test/internal/need"
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

var Engines = []*engine{
	{name: "Chromium", start: startChromium},
	{name: "Firefox", start: startFirefox},
	{name: "WebKit", start: startWebKit},
}

// End ends the browsers that were started. app.Main calls it after all tests.
func End() {
	for _, engine := range Engines {
		if engine.running != nil {
			engine.running.end()
		}
	}
}

// Each runs a test in all of them. One that is not installed is skipped, but not where CI=true.
func Each(t *testing.T, test func(t *testing.T, b *Browser)) {
	t.Helper()
	for _, engine := range Engines {
		t.Run(engine.name, func(t *testing.T) {
			t.Parallel()
			test(t, engine.Use(t))
		})
	}
}

// Use is the browser for one test.
func (e *engine) Use(t testing.TB) *Browser {
	t.Helper()
	e.once.Do(func() { e.running, e.err = e.start(t) })
	var absent notInstalled
	if errors.As(e.err, &absent) {
		need.Missing(t, absent.program, "apt-get install "+absent.packages)
	}
	if e.err != nil {
		t.Fatal(e.err)
	}
	return &Browser{t: t, Name: e.name, driver: e.running}
}

// Chromium is for a test that needs what only Chromium can do. Anything that a page writes to the console
// as an error or a warning, throws, or violates of its Content-Security-Policy, fails the test.
func Chromium(t testing.TB) *Browser {
	t.Helper()
	return Engines[0].Use(t)
}

// Browser is what one test does with a driver.
type Browser struct {
	t       testing.TB
	Name    string
	driver  driver
	Offline atomic.Bool // the server may be out of reach, which the browser writes to the console
}

// Tab is one page in a browser. Its methods may be used from one goroutine at a time.
type Tab struct {
	T      testing.TB
	window window
	closed bool
}

// Open loads an address in a new tab, which is closed when the test ends.
func (b *Browser) Open(url string) *Tab {
	b.t.Helper()
	var w window
	var err error
	if c, ok := b.driver.(*chromium); ok {
		w, err = c.openFor(b, url)
	} else {
		w, err = b.driver.open(url)
	}
	if err != nil {
		b.t.Fatalf("open %s in %s: %v", url, b.Name, err)
	}
	p := &Tab{T: b.t, window: w}
	b.t.Cleanup(func() {
		if !p.closed {
			_ = w.close() // may have crashed
		}
	})
	return p
}

// Close closes the tab as its user does.
func (p *Tab) Close() {
	p.T.Helper()
	p.closed = true
	if err := p.window.close(); err != nil {
		p.T.Fatal(err)
	}
}

// Navigate loads another address in the tab.
func (p *Tab) Navigate(url string) {
	p.T.Helper()
	if err := p.window.navigate(url); err != nil {
		p.T.Fatal(err)
	}
}

// Until waits until the JavaScript expression is true, also across a change to another page.
func (p *Tab) Until(expression string) {
	p.T.Helper()
	deadline := time.Now().Add(testwait.Limit)
	for {
		value, err := p.window.evaluate("(" + expression + ")")
		if string(value) == "true" {
			return
		}
		if time.Now().After(deadline) {
			text, _ := p.window.evaluate("document.body.innerText")
			p.T.Fatalf("%s: not true in time (%s, %v); the page shows:\n%s", expression, value, err, text)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Evaluate returns the value of a JavaScript expression, or of the promise that it is.
func Evaluate[T any](p *Tab, expression string) (value T) {
	p.T.Helper()
	answer, err := p.window.evaluate(expression)
	if err == nil && len(answer) > 0 {
		err = json.Unmarshal(answer, &value)
	}
	if err != nil {
		p.T.Fatalf("%s: %v", expression, err)
	}
	return value
}

// Try returns the value of an expression as JSON, or the error that it ends with.
func (p *Tab) Try(expression string) (json.RawMessage, error) { return p.window.evaluate(expression) }

// Resize gives the window that size, as far as its browser can.
func (p *Tab) Resize(width, height int) {
	p.T.Helper()
	if err := p.window.resize(width, height); err != nil {
		p.T.Fatal(err)
	}
}

// Run executes statements in the page.
func (p *Tab) Run(statements string) {
	p.T.Helper()
	if _, err := p.window.evaluate("(() => {" + statements + "})()"); err != nil {
		p.T.Fatalf("%s: %v", statements, err)
	}
}

// Picture writes a screenshot where they are asked for.
func (p *Tab) Picture(name string) {
	p.T.Helper()
	folder := os.Getenv("SCREENSHOTS")
	if folder == "" {
		return
	}
	picture, err := p.chromium().picture()
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o644)
	}
	if err != nil {
		p.T.Fatal(err)
	}
}

// notInstalled is the error of a program that a test needs: its name, and the package that has it.
type notInstalled struct{ program, packages string }

func (e notInstalled) Error() string {
	return fmt.Sprintf("%s is not installed (apt-get install %s)", e.program, e.packages)
}
