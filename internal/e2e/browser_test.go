package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is a Chromium with a profile of its own. It ends with the test.
type browser struct {
	t       *testing.T
	ctx     context.Context
	offline atomic.Bool // the server may be out of reach, which the browser writes to the console
}

// browse starts a browser. Anything that a page of it writes to the console as an error or a warning,
// throws, or violates of its Content-Security-Policy, fails the test.
func browse(t *testing.T, flags ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(findChromium(t)),
		chromedp.Flag("no-sandbox", true), // which needs privileges that containers lack
		chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
	)
	options = append(options, flags...)
	allocator, release := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, end := chromedp.NewContext(allocator)
	t.Cleanup(func() { end(); release() })
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return &browser{t: t, ctx: ctx}
}

// findChromium is where the browser is. Without one the test is skipped, but not where CI=true.
func findChromium(t *testing.T) string {
	t.Helper()
	long(t)
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	missing(t, "a browser", "install Chromium (apt-get install chromium) or Google Chrome")
	return ""
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

// tab is one page in a browser. Its methods may be used from one goroutine at a time.
type tab struct {
	t     *testing.T
	ctx   context.Context
	close func() // as its user does
}

// open loads an address in a new tab.
func (b *browser) open(url string) *tab {
	b.t.Helper()
	ctx, closeTab := chromedp.NewContext(b.ctx, chromedp.WithListener(b.complain))
	b.t.Cleanup(closeTab)
	p := &tab{t: b.t, ctx: ctx, close: closeTab}
	p.do(chromedp.Navigate(url))
	return p
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

// crash kills the process of the tab.
func (p *tab) crash() {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	p.t.Cleanup(cancel)
	go chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, page.Crash, cdp.Empty{})
		return err // never comes
	}))
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	run(p, chromedp.Steps(steps...))
}

// until waits until the JavaScript expression is true, also across a change to another page.
func (p *tab) until(expression string) {
	p.t.Helper()
	p.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		poll := time.NewTicker(50 * time.Millisecond)
		defer poll.Stop()
		for {
			ok, err := chromedp.Evaluate[bool](expression)(ctx, target)
			if ok {
				return nil
			}
			select {
			case <-poll.C:
			case <-ctx.Done():
				return fmt.Errorf("%s: not true in time (%w)", expression, errors.Join(ctx.Err(), err))
			}
		}
	}))
}

// evaluate returns the value of a JavaScript expression, or of the promise that it is.
func evaluate[T any](p *tab, expression string) T {
	p.t.Helper()
	return run(p, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

func run[T any](p *tab, action chromedp.Action[T]) T {
	p.t.Helper()
	// The first action makes the tab, which lives no longer than the context of that action.
	if chromedp.FromContext(p.ctx).Target == nil {
		if err := chromedp.Do(p.ctx); err != nil {
			p.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		var text string
		if ctx, cancel := context.WithTimeout(p.ctx, time.Second); ctx.Err() == nil {
			defer cancel()
			text, _ = chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
		}
		p.t.Fatalf("in the browser: %v; the page shows:\n%s", err, text)
	}
	return value
}
