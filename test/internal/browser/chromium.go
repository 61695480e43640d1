package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"gin-sse/internal/testwait"
)

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
		chromedp.WSURLReadTimeout(testwait.Limit),
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
func (c *chromium) openFor(b *Browser, url string) (window, error) {
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

// Private returns the same browser with cookies of its own, if it is Chromium. In the others, all ports of localhost share
// them, so tests that run at the same time must name theirs differently or use another host.
func (b *Browser) Private() *Browser {
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
	other := &Browser{t: b.t, Name: b.Name, driver: &chromium{ctx, end}}
	other.Offline.Store(b.Offline.Load())
	return other
}

func (b *Browser) complain(event any) {
	switch event := event.(type) {
	case *runtime.EventExceptionThrown:
		b.t.Errorf("the page threw: %v", &chromedp.ExceptionError{ExceptionDetails: event.ExceptionDetails})
	case *runtime.EventConsoleAPICalled:
		if b.Offline.Load() && strings.HasPrefix(string(event.Args[0].Value), `"The stream `) {
			return // SharedEventSource gives up
		}
		if event.Type == runtime.ConsoleAPICalledTypeError || event.Type == runtime.ConsoleAPICalledTypeWarning {
			b.t.Errorf("console.%s with %s", event.Type, event.Args[0].Value)
		}
	case *log.EventEntryAdded:
		entry := event.Entry
		if b.Offline.Load() && (entry.Source == log.EntrySourceNetwork || strings.HasPrefix(entry.Text, "The stream ") || strings.HasPrefix(entry.Text, "EventSource's response ") || strings.Contains(entry.Text, "CORS policy")) {
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
	ctx, cancel := context.WithTimeout(w.ctx, testwait.Limit)
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
	ctx, cancel := context.WithTimeout(w.ctx, testwait.Limit)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[[]byte](expression, chromedp.EvalAwaitPromise))
	return value, err
}

func (w *chromiumWindow) picture() ([]byte, error) {
	ctx, cancel := context.WithTimeout(w.ctx, testwait.Limit)
	defer cancel()
	return chromedp.Run(ctx, chromedp.CaptureScreenshot())
}

// chromium is the tab of a test that runs in Chromium alone.
func (p *Tab) chromium() *chromiumWindow { return p.window.(*chromiumWindow) }

// Do takes steps of Chromium's own protocol in the tab.
func (p *Tab) Do(steps ...chromedp.Action[chromedp.Void]) {
	p.T.Helper()
	if err := p.chromium().do(steps...); err != nil {
		p.T.Fatalf("in the browser: %v", err)
	}
}

// Crash kills the process of the tab.
func (p *Tab) Crash() {
	ctx, cancel := context.WithTimeout(p.chromium().ctx, testwait.Limit)
	p.T.Cleanup(cancel)
	go chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, page.Crash, cdp.Empty{})
		return err // never comes
	}))
}
