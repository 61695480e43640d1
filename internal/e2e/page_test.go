package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/debugger"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

func TestPageShowsEverySecondAndGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	a := start(t)
	b := browse(t)
	page := b.open(a.url)
	page.until("document.title === 'Server-Sent Events Example'")
	page.until(lines(4))
	everySecond(t, page.lines())

	b.offline.Store(true)
	a.stop(syscall.SIGTERM)
	page.until(state("reconnecting"))
	seen := len(page.lines())
	page.until("Date.now() - new Date(document.querySelector('#status time').dateTime) > 10_000")
	start(t, "PORT="+a.port)
	page.until(state("live"))
	b.offline.Store(false)
	page.until(lines(seen + 4))
	everySecond(t, page.lines()[seen:])
}

func TestTabsOfABrowserShareOneStream(t *testing.T) {
	t.Parallel()
	a := start(t)
	counter := count(t, a.url)
	b := browse(t)
	var tabs []*tab
	for range 20 {
		tabs = append(tabs, b.open(counter.url))
	}
	for _, tab := range tabs {
		tab.until(state("live", "shared"))
	}
	feeding := slices.IndexFunc(tabs, (*tab).feeds)
	if feeding < 0 {
		t.Fatal("no tab feeds the others")
	}
	seen := len(tabs[feeding].lines())
	tabs[feeding].close()
	tabs = slices.Delete(tabs, feeding, feeding+1)

	feeds := 0
	for _, tab := range tabs {
		tab.until(lines(seen + 5))
		everySecond(t, tab.lines())
		if tab.feeds() {
			feeds++
		}
	}
	if open, opened := counter.streams(); feeds != 1 || open != 1 || opened != 2 {
		t.Errorf("%d tabs feed the others, %d streams are open and %d were opened; want 1, 1 and 2", feeds, open, opened)
	}
}

func TestNoMessageIsLostOrDoubledWhenTheFeedingTabGoes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name            string
		leave, comeBack func(t *testing.T, feeding *tab)
	}{
		{name: "closed", leave: func(_ *testing.T, feeding *tab) { feeding.close() }},
		{name: "crashed", leave: func(_ *testing.T, feeding *tab) { feeding.crash() }},
		{
			name:     "stuck",
			leave:    func(_ *testing.T, feeding *tab) { feeding.pause() },
			comeBack: func(_ *testing.T, feeding *tab) { feeding.resume() },
		},
		{
			name:     "frozen",
			leave:    func(_ *testing.T, feeding *tab) { feeding.lifecycle(page.SetWebLifecycleStateStateFrozen) },
			comeBack: func(_ *testing.T, feeding *tab) { feeding.lifecycle(page.SetWebLifecycleStateStateActive) },
		},
		{
			name: "elsewhere and back",
			leave: func(_ *testing.T, feeding *tab) {
				evaluate[int](feeding, "window.mark = 1")
				feeding.do(chromedp.Navigate(evaluate[string](feeding, "location.origin") + "/elsewhere"))
			},
			comeBack: func(t *testing.T, feeding *tab) {
				evaluate[chromedp.Void](feeding, "setTimeout(() => history.back())")
				feeding.until("document.title === 'Server-Sent Events Example'")
				if !evaluate[bool](feeding, "window.mark === 1") {
					t.Error("the browser did not keep the page")
				}
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			b := browse(t)
			tabs := []*tab{b.open(s.url), b.open(s.url), b.open(s.url)}
			for _, tab := range tabs {
				tab.until(state("live", "shared"))
			}
			feeding := slices.IndexFunc(tabs, (*tab).feeds)
			gone := tabs[feeding]

			// A message every few milliseconds, and no more of them than the page keeps.
			var publishing sync.WaitGroup
			sent := 0
			publishing.Go(func() {
				ticker := time.NewTicker(5 * time.Millisecond)
				defer ticker.Stop()
				for sent < 80 {
					<-ticker.C
					sent++
					s.send(fmt.Sprintf(`{"message":"%d"}`, sent))
				}
			})
			tabs[0].until(lines(10))
			test.leave(t, gone)
			tabs = slices.Delete(tabs, feeding, feeding+1)
			s.until(t, func() bool { return s.opened == 2 })
			publishing.Wait()
			if test.comeBack != nil {
				test.comeBack(t, gone)
				tabs = append(tabs, gone)
			}
			s.send(`{"message":"last"}`)
			var want []string
			for n := range sent {
				want = append(want, fmt.Sprint(n+1))
			}
			want = append(want, "last")
			for _, tab := range tabs {
				tab.until("document.querySelector('#sse-data p').textContent === 'last' && " + lines(len(want)))
				if got := tab.lines(); !slices.Equal(got, want) {
					t.Errorf("a tab shows %q, want 1 to %d and last", got, sent)
				}
			}
			s.until(t, func() bool { return s.open == 1 })
		})
	}
}

func TestANewTabShowsWhatTheOthersHave(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	b := browse(t)
	first := b.open(s.url)
	first.until(state("live"))
	s.send(`"one"`, `{"message":"two"}`)
	s.beat(`{"message":"tick"}`)
	first.until(lines(3))
	second := b.open(s.url)
	second.until(lines(3))
	second.until(state("shared"))
	s.send(`"three"`)
	for _, tab := range []*tab{first, second} {
		tab.until(lines(4))
		if got, want := tab.lines(), []string{`"one"`, "two", "tick", `"three"`}; !slices.Equal(got, want) {
			t.Errorf("a tab shows %q, want %q", got, want)
		}
	}
	if opened := s.get(&s.opened); opened != 1 {
		t.Errorf("%d streams were opened, want 1", opened)
	}
}

func TestTabsHaveStreamsOfTheirOwnWhereTheBrowserGrantsNoLocks(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	b := browse(t, chromedp.Flag("host-resolver-rules", "MAP gin-sse.test 127.0.0.1"))
	var tabs []*tab
	for range 3 {
		tab := b.open(strings.Replace(s.url, "localhost", "gin-sse.test", 1))
		tab.until(state("live"))
		evaluate[chromedp.Void](tab, `void new MutationObserver((changes) => { window.changes = (window.changes ?? 0) + changes.length })
			.observe(document.getElementById('status'), { attributes: true, childList: true })`)
		tabs = append(tabs, tab)
	}
	s.until(t, func() bool { return s.open == 3 })
	var want []string
	for n := range 5 {
		s.beat(fmt.Sprint(n)) // a tick, which has no id to know it by
		want = append(want, fmt.Sprint(n))
		for _, tab := range tabs {
			tab.until(lines(n + 1))
		}
	}
	for _, tab := range tabs {
		if got := tab.lines(); !slices.Equal(got, want) {
			t.Errorf("a tab shows %q, want %q", got, want)
		}
		if changes := evaluate[int](tab, "window.changes ?? 0"); changes > 3 {
			t.Errorf("the status changed %d times", changes)
		}
	}
}

func TestPageComesBackWhenTheServerHadNoRoom(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	b := browse(t)
	b.offline.Store(true)
	s.change(func() { s.full = true })
	tab := b.open(s.url)
	tab.until(state("reconnecting"))
	s.until(t, func() bool { return s.refused >= 2 })
	s.change(func() { s.full = false })
	tab.until(state("live"))
	s.send(`{"message":"room"}`)
	tab.until(lines(1))
}

func TestPageMissesNothingWhileItIsCutOff(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	b := browse(t)
	tab := b.open(s.url)
	tab.until(state("live"))
	s.send(`"one"`)
	tab.until(lines(1))
	b.offline.Store(true)
	s.change(func() { s.epoch++; s.full = true })
	tab.until(state("reconnecting"))
	s.send(`"two"`, `"three"`, `"four"`, `"five"`)
	s.change(func() { s.full = false; s.lost = 3 })
	tab.until(lines(4))
	if got, want := tab.lines(), []string{`"one"`, "2 messages were missed", `"four"`, `"five"`}; !slices.Equal(got, want) {
		t.Errorf("the page shows %q, want %q", got, want)
	}
}

func TestPageResumesFromTheServersHistoryAndIsToldOfAGapAfterARestart(t *testing.T) {
	t.Parallel()
	a := start(t, "PUBLISH_TOKEN="+token, "TICK_INTERVAL=0")
	network := newRelay(t, "127.0.0.1:"+a.port)
	b := browse(t)
	tab := b.open(strings.Replace(network.url, "127.0.0.1", "localhost", 1))
	tab.until(state("live"))
	b.offline.Store(true)
	network.cut() // before any message
	tab.until(state("reconnecting"))
	a.publish(`{"message":"one"}`)
	a.publish(`{"message":"two"}`)
	tab.until(lines(2))
	network.cut()
	a.publish(`{"message":"three"}`)
	tab.until(lines(3))
	a.stop(syscall.SIGTERM)
	tab.until(state("reconnecting"))
	again := start(t, "PUBLISH_TOKEN="+token, "TICK_INTERVAL=0", "PORT="+a.port)
	again.publish(`{"message":"four"}`)
	tab.until(lines(5))
	if got, want := tab.lines(), []string{"one", "two", "three", "Some messages were missed", "four"}; !slices.Equal(got, want) {
		t.Errorf("the page shows %q, want %q", got, want)
	}
}

func TestPageLeavesAConnectionThatHasDied(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	page := browse(t).open(s.url)
	for tick := range 3 {
		s.beat(fmt.Sprint(tick))
		page.until(lines(tick + 1))
	}
	// No tick comes any more, and the connection stays open.
	s.until(t, func() bool { return s.opened == 2 })
	s.beat("3")
	page.until(lines(4))
	if got, want := page.lines(), []string{"0", "1", "2", "3"}; !slices.Equal(got, want) {
		t.Errorf("the page shows %q, want %q", got, want)
	}
}

func TestPageSaysWhatIsMissingWithoutJavaScript(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	page := browse(t).open("about:blank")
	page.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}), chromedp.Navigate(s.url))
	if text := evaluate[string](page, "document.body.innerText"); !strings.Contains(text, "JavaScript") {
		t.Errorf("the page shows %q", text)
	}
}

func TestMessagesAreShownAsTextWhateverTheyAre(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tab := browse(t).open(s.url)
	tab.until(state("live"))
	want := []string{"<img src=x onerror=alert(1)><b>bold</b>", `"text"`, "null", "7", "[]", `{"message":1}`, `{"temperature":21.5}`, "two\nlines", ""}
	s.send(`{"message":"<img src=x onerror=alert(1)><b>bold</b>"}`, `"text"`, `null`, `7`, `[]`, `{"message":1}`, `{"temperature":21.5}`, `{"message":"two\nlines"}`, `{"message":""}`)
	tab.until(lines(len(want)))
	if got := tab.lines(); !slices.Equal(got, want) {
		t.Errorf("the page shows %q, want %q", got, want)
	}
	if evaluate[bool](tab, "document.querySelector('#sse-data p *') !== null") {
		t.Error("a message has become markup")
	}
}

// lines is true when the page shows so many lines or more.
func lines(n int) string {
	return fmt.Sprintf("document.querySelectorAll('#sse-data p').length >= %d", n)
}

// state is true when the status is one of these.
func state(names ...string) string {
	return fmt.Sprintf("%q.split(' ').includes(document.getElementById('status').dataset.state)", strings.Join(names, " "))
}

// lines is what the page shows, the oldest first.
func (p *tab) lines() []string {
	p.t.Helper()
	lines := evaluate[[]string](p, "Array.from(document.querySelectorAll('#sse-data p'), (line) => line.textContent)")
	slices.Reverse(lines)
	return lines
}

// feeds is whether this tab has the stream.
func (p *tab) feeds() bool {
	p.t.Helper()
	return evaluate[bool](p, state("live"))
}

// pause stops the page's script at its next step, as a debugger does.
func (p *tab) pause() {
	p.t.Helper()
	p.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		if _, err := cdp.Call(ctx, target, debugger.Enable, debugger.EnableParams{}); err != nil {
			return err
		}
		_, err := cdp.Call(ctx, target, debugger.Pause, cdp.Empty{})
		return err
	}))
}

func (p *tab) resume() {
	p.t.Helper()
	p.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, debugger.Resume, debugger.ResumeParams{})
		return err
	}))
}

func (p *tab) lifecycle(to page.SetWebLifecycleStateState) {
	p.t.Helper()
	p.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: to})
		return err
	}))
}

// everySecond fails the test unless each line is the time one second after the line before.
func everySecond(t *testing.T, lines []string) {
	t.Helper()
	var before time.Time
	for i, line := range lines {
		text, ok := strings.CutPrefix(line, "Server Time: ")
		at, err := time.Parse("3:04:05 PM", text)
		if !ok || err != nil {
			t.Fatalf("%q is no time", line)
		}
		if step := at.Sub(before); i > 0 && step != time.Second && step != time.Second-24*time.Hour {
			t.Errorf("after %s came %s", before.Format("3:04:05 PM"), text)
		}
		before = at
	}
}

// counter is a proxy before a server that counts the streams.
type counter struct {
	url string

	mu           sync.Mutex
	open, opened int
}

func count(t *testing.T, of string) *counter {
	t.Helper()
	target, err := url.Parse(of)
	if err != nil {
		t.Fatal(err)
	}
	c := &counter{}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sse" {
			c.change(1, 1)
			defer c.change(-1, 0)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	c.url = strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	return c
}

func (c *counter) change(open, opened int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open, c.opened = c.open+open, c.opened+opened
}

func (c *counter) streams() (open, opened int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open, c.opened
}
