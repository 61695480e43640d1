package pages

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/debugger"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"gin-sse/test/internal/browser"
)

const isOpen = "source.readyState === 1"

func TestTabsShareOneStreamAndLoseNothingWhenTheLeadingTabGoes(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		const n = 8 // more than a browser has connections for one server
		var tabs []*browser.Tab
		for range n {
			tabs = append(tabs, b.Open(s.url+"/tab"))
		}
		for _, tab := range tabs {
			tab.Until(isOpen)
		}
		if open, opened := s.get(&s.open), s.get(&s.opened); open != 1 || opened != 1 {
			t.Errorf("%d streams are open and %d were opened; want one", open, opened)
		}

		var publishing sync.WaitGroup
		const messages = 300
		publishing.Go(func() {
			ticker := time.NewTicker(10 * time.Millisecond)
			defer ticker.Stop()
			for i := range messages {
				<-ticker.C
				s.send(fmt.Sprint(i + 1))
			}
		})
		tabs[0].Until("got.length > 10")
		for i, leave := range []func(*browser.Tab){
			func(p *browser.Tab) { p.Close() },
			func(p *browser.Tab) { p.Run("source.close()"); p.Close() },
			func(p *browser.Tab) { p.Navigate(s.url + "/elsewhere") },
		} {
			at := slices.IndexFunc(tabs, leads)
			if at < 0 {
				t.Fatal("no tab leads")
			}
			leave(tabs[at])
			tabs = slices.Delete(tabs, at, at+1)
			s.until(t, func() bool { return s.opened == i+2 })
		}
		publishing.Wait()
		for _, tab := range tabs {
			tab.Until(fmt.Sprintf("got.length >= %d", messages))
			wants(tab, t, 1, messages)
		}
		s.until(t, func() bool { return s.open == 1 })
	})
}

func leads(p *browser.Tab) bool {
	p.T.Helper()
	return browser.Evaluate[bool](p, "streams > 0")
}

// wants fails the test unless the tab got these numbers, each once and in order.
func wants(p *browser.Tab, t *testing.T, from, to int) {
	t.Helper()
	var want []string
	for n := from; n <= to; n++ {
		want = append(want, fmt.Sprint(n))
	}
	if got := browser.Evaluate[[]string](p, "got"); !slices.Equal(got, want) {
		t.Errorf("a tab got %q, want %d to %d", got, from, to)
	}
}

func TestATabThatWasAwayGetsWhatItMissedAndNoOtherTabGetsItTwice(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		for _, lead := range []bool{true, false} { // whether the tab that goes leads
			s := newStage(t)
			tabs := []*browser.Tab{b.Open(s.url + "/tab"), b.Open(s.url + "/tab"), b.Open(s.url + "/tab")}
			for _, tab := range tabs {
				tab.Until(isOpen)
			}
			s.send("1", "2")
			for _, tab := range tabs {
				tab.Until("got.length === 2")
			}
			gone := tabs[slices.IndexFunc(tabs, func(p *browser.Tab) bool { return leads(p) == lead })]
			gone.Run("window.mark = 1")
			gone.Navigate(s.url + "/elsewhere")
			gone.Until("document.title === 'elsewhere'")
			s.until(t, func() bool { return s.open == 1 })
			s.send("3", "4")
			for _, tab := range tabs {
				if tab != gone {
					tab.Until("got.length === 4")
				}
			}
			gone.Run("history.back()")
			gone.Until("document.title === 'tab' && source?.readyState === 1")
			kept := browser.Evaluate[bool](gone, "window.mark === 1")
			// Firefox keeps no page that had a stream or a lock when its user left, and WebKit few pages for all tabs.
			if !kept && b.Name == "Chromium" {
				t.Errorf("%s did not keep the page (leading: %v)", b.Name, lead)
			}
			s.send("5")
			for _, tab := range tabs {
				if tab != gone || kept {
					tab.Until("got.includes('5')")
					wants(tab, t, 1, 5)
				}
			}
			s.until(t, func() bool { return s.open == 1 })
		}
	})
}

func TestAnAddressWithAnIdResumesThereAndTheOtherTabsGoOn(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		first := b.Open(s.url + "/tab")
		first.Until(isOpen)
		s.send("1", "2", "3", "4")
		first.Until("got.length === 4")
		s.beat("tick")
		first.Until("ticks.length === 1")
		second := b.Open(s.url + "/tab?url=/sse?lastEventId=e-2")
		second.Until("got.length === 2")
		wants(second, t, 3, 4)
		third := b.Open(s.url + "/tab")
		third.Until(isOpen)
		s.send("5")
		for at, tab := range []*browser.Tab{first, second, third} {
			tab.Until("got.includes('5')")
			wants(tab, t, []int{1, 3, 5}[at], 5)
			if ticks := browser.Evaluate[[]string](tab, "ticks"); !slices.Equal(ticks, []string{"tick"}) {
				t.Errorf("tab %d got the ticks %q, want one", at, ticks)
			}
		}
		if open := s.get(&s.open); open != 1 {
			t.Errorf("%d streams are open", open)
		}
		other := b.Open(s.url + "/tab?url=/sse?topic=other")
		other.Until(isOpen)
		if open := s.get(&s.open); open != 2 {
			t.Errorf("%d streams are open for two addresses", open)
		}
	})
}

func TestATabThatWantsAllThatIsKeptFetchesItAndTheOtherTabsGoOn(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		first := b.Open(s.url + "/tab?url=/sse?lastEventId=earliest")
		s.send("1", "2", "3", "4")
		first.Until("got.length === 4")
		second := b.Open(s.url + "/tab?url=/sse?lastEventId=earliest")
		for n := 5; n <= 20; n++ { // while it fetches its part
			s.send(fmt.Sprint(n))
			second.Until(fmt.Sprintf("got.length >= %d", n))
		}
		for _, tab := range []*browser.Tab{first, second} {
			tab.Until("got.length >= 20 && " + isOpen)
			wants(tab, t, 1, 20)
		}
		if opened, finite := s.get(&s.opened), s.get(&s.finite); opened != 1 || finite != 1 {
			t.Errorf("the tabs opened %d streams and made %d finite requests, want one of each", opened, finite)
		}
		if states := browser.Evaluate[[]string](first, "states"); !slices.Equal(states, []string{"open"}) {
			t.Errorf("the first tab was %q, want it open throughout", states)
		}
	})
}

func TestEveryTabIsToldOnceWhatIsMissing(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		b.Offline.Store(true)
		tabs := []*browser.Tab{b.Open(s.url + "/tab"), b.Open(s.url + "/tab")}
		for _, tab := range tabs {
			tab.Until(isOpen)
		}
		s.change(func() { s.epoch++; s.status = 503 })
		for _, tab := range tabs {
			tab.Until("source.readyState === 0 && states.includes('error 503')")
		}
		s.send("1", "2", "3", "4", "5")
		s.change(func() { s.status, s.lost = 0, 3 })
		for _, tab := range tabs {
			tab.Until("got.length === 3")
			if got, want := browser.Evaluate[[]string](tab, "got"), []string{`gap:{}`, "4", "5"}; !slices.Equal(got, want) {
				t.Errorf("a tab got %q, want %q", got, want)
			}
		}
		s.change(func() { s.epoch++; s.status = 204 }) // for good
		for _, tab := range tabs {
			tab.Until("source.readyState === 2 && states.at(-1) === 'error 204'")
		}
	})
}

func TestAConnectionThatDiedSilentlyIsReplaced(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		tab := b.Open(s.url + "/tab?fast=20")
		tab.Until(isOpen)
		s.send("1")
		tab.Until("got.length === 1")
		s.until(t, func() bool { return s.opened >= 2 }) // 40 s of that clock without a byte
		tab.Until("silences.length > 0")
		if silence := browser.Evaluate[[]float64](tab, "silences")[0]; silence < 40_000 {
			t.Errorf("the connection was replaced after %v ms", silence)
		}
		s.send("2")
		tab.Until("got.length === 2")
		wants(tab, t, 1, 2)
	})
}

func TestWithoutLocksATabThatIsHiddenGivesItsConnectionUp(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		tab := b.Open(s.url + "/tab?nolocks")
		look := func(hidden bool) {
			tab.Run(fmt.Sprintf("Object.defineProperty(document, 'hidden', { value: %v, configurable: true }); document.dispatchEvent(new Event('visibilitychange'))", hidden))
		}
		tab.Until("source !== undefined")
		look(false)
		tab.Until(isOpen)
		s.send("1")
		tab.Until("got.length === 1")
		look(true)
		s.until(t, func() bool { return s.open == 0 })
		s.send("2", "3")
		look(false)
		tab.Until("got.length === 3")
		wants(tab, t, 1, 3)
	})
}

func TestAllInstancesOfAPageShareAConnectionWhateverTheBrowserLacks(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		for _, lacking := range []string{"", "&nolocks&seen"} {
			s := newStage(t)
			tab := b.Open(s.url + "/tab?url=/sse?topic=a%26topic=b&more=8" + lacking)
			tab.Until(isOpen)
			tab.Until("open === 8")
			s.send("1")
			tab.Until("got.length === 1 && more.length === 8")
			if status := browser.Evaluate[int](tab, "realFetch('/elsewhere').then(({ status }) => status)"); status != 200 {
				t.Errorf("another request got %d", status)
			}
			if opened := s.get(&s.opened); opened != 1 {
				t.Errorf("the page opened %d streams (%q)", opened, lacking)
			}
		}
	})
}

func TestHundredQuickMountsLeaveConnectionsForOtherRequests(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		tab := b.Open(s.url + "/tab?url=/sse?topic=other")
		tab.Until(isOpen)
		tab.Run(`window.mounted = import('/lib/shared-event-source.js').then(async ({ SharedEventSource }) => {
			for (let n = 0; n < 100; n++) {
				const instance = new SharedEventSource('/sse');
				await new Promise((resolve) => { // setTimeout is slow in a tab that is hidden
					const { port1, port2 } = new MessageChannel();
					port1.onmessage = resolve;
					port2.postMessage(0);
				});
				instance.close();
			}
		})`)
		tab.Until("window.mounted.then(() => true)")
		if status := browser.Evaluate[int](tab, "realFetch('/elsewhere').then(({ status }) => status)"); status != 200 {
			t.Errorf("another request got %d", status)
		}
		if opened := s.get(&s.opened); opened > 3 { // one, unless the machine paused for a second
			t.Errorf("the page opened %d streams", opened)
		}
		s.until(t, func() bool { return s.open == 1 })
	})
}

func TestATokenIsInNoNameThatOtherScriptsCanRead(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		tab := b.Open(s.url + "/tab")
		tab.Until(isOpen)
		tab.Run(`import('/lib/shared-event-source.js').then(({ SharedEventSource }) => {
			window.secret = new SharedEventSource('/sse', { headers: { Authorization: 'Bearer s3cret' } });
		})`)
		tab.Until("window.secret?.readyState === 1")
		names := browser.Evaluate[string](tab, "navigator.locks.query().then(({ held }) => held.map(({ name }) => name).join())")
		if strings.Contains(names, "s3cret") || strings.Contains(names, "sse") || len(names) < 80 {
			t.Errorf("the locks are %q", names)
		}
	})
}

func TestADeadConnectionIsReplacedOnceSomebodyLooks(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		for _, look := range []string{"source.reconnect()", "dispatchEvent(new Event('online'))", "document.dispatchEvent(new Event('visibilitychange'))"} {
			s := newStage(t)
			tabs := []*browser.Tab{b.Open(s.url + "/tab"), b.Open(s.url + "/tab")}
			for _, tab := range tabs {
				tab.Until(isOpen)
			}
			s.send("1")
			for _, tab := range tabs {
				tab.Run("Object.defineProperty(document, 'hidden', { value: false })")
				tab.Until("got.length === 1")
			}
			s.change(func() { s.died = s.opened })
			s.send("2")
			asks := tabs[slices.IndexFunc(tabs, func(p *browser.Tab) bool { return !leads(p) })]
			asks.Run(look)
			for _, tab := range tabs {
				tab.Until("got.length === 2")
				wants(tab, t, 1, 2)
				if states := browser.Evaluate[[]string](tab, "states"); !slices.Equal(states, []string{"open"}) {
					t.Errorf("after %s a tab was %q, want it open throughout", look, states)
				}
			}
			s.until(t, func() bool { return s.opened == 2 })
		}
	})
}

func TestWorkersReadStreams(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		for _, kind := range []string{"dedicated", "shared", "service"} {
			tab := b.Open(s.url + "/elsewhere")
			tab.Until("document.title === 'elsewhere'")
			tab.Run(fmt.Sprintf("window.kind = %q", kind))
			tab.Run(`window.got = []; window.states = [];
				const hear = ({ data }) => (data.state === undefined ? got.push(data.data) : states.push(data.state));
				const options = { type: 'module' };
				if (kind === 'dedicated') (window.worker = new Worker('/reader.mjs', options)).onmessage = hear;
				if (kind === 'shared') (window.worker = new SharedWorker('/reader.mjs', options)).port.onmessage = hear;
				if (kind === 'service') navigator.serviceWorker.register('/reader.mjs', options).then(({ installing }) => {
					navigator.serviceWorker.onmessage = hear;
					navigator.serviceWorker.startMessages();
					installing.postMessage('begin');
				}, (error) => states.push(String(error)))`)
			tab.Until("states.length > 0")
			s.send(fmt.Sprintf("%q", kind))
			tab.Until("got.length > 0")
			if got := browser.Evaluate[string](tab, "got.at(-1)"); got != fmt.Sprintf("%q", kind) {
				t.Errorf("a %s worker got %s", kind, got)
			}
		}
	})
}

func TestAClosedEventSourceLeavesNothing(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		tab := b.Open(s.url + "/tab")
		tab.Until(isOpen)
		tab.Run("source.close()")
		s.until(t, func() bool { return s.open == 0 })
		tab.Until("navigator.locks.query().then(({ held, pending }) => held.length + pending.length === 0)")
		tab.Run("dispatchEvent(new Event('pageshow')); dispatchEvent(new Event('online')); source.reconnect()")
		if opened := browser.Evaluate[int](tab, "opened"); opened != 1 || s.get(&s.opened) != 1 {
			t.Errorf("it opened %d streams", opened)
		}
	})
}

// WebDriver cannot crash or stop a tab.
func TestNothingIsLostOrDoubledWhenTheLeadingTabCrashesOrStops(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name            string
		leave, comeBack func(leading *browser.Tab)
	}{
		{name: "crashed", leave: func(leading *browser.Tab) { leading.Crash() }},
		{
			name: "stuck",
			leave: func(leading *browser.Tab) {
				leading.Do(call(debugger.Enable, debugger.EnableParams{}), call(debugger.Pause, cdp.Empty{}))
			},
			comeBack: func(leading *browser.Tab) { leading.Do(call(debugger.Resume, debugger.ResumeParams{})) },
		},
		{
			name:     "frozen",
			leave:    func(leading *browser.Tab) { lifecycle(leading, page.SetWebLifecycleStateStateFrozen) },
			comeBack: func(leading *browser.Tab) { lifecycle(leading, page.SetWebLifecycleStateStateActive) },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			b := browser.Chromium(t)
			tabs := []*browser.Tab{b.Open(s.url + "/tab"), b.Open(s.url + "/tab"), b.Open(s.url + "/tab")}
			for _, tab := range tabs {
				tab.Until(isOpen)
			}
			leading := slices.IndexFunc(tabs, leads)
			gone := tabs[leading]
			s.send("1", "2")
			tabs[2].Until("got.length === 2")
			test.leave(gone)
			tabs = slices.Delete(tabs, leading, leading+1)
			s.send("3", "4")
			s.until(t, func() bool { return s.opened == 2 })
			s.send("5", "6")
			for _, tab := range tabs {
				tab.Until("got.length === 6")
			}
			if test.comeBack != nil {
				test.comeBack(gone)
				tabs = append(tabs, gone)
			}
			s.send("7")
			for _, tab := range tabs {
				tab.Until("got.includes('7')")
				wants(tab, t, 1, 7)
			}
			s.until(t, func() bool { return s.open == 1 })
		})
	}
}

func call[P any, R any](method cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, method, params)
		return err
	})
}

func lifecycle(p *browser.Tab, to page.SetWebLifecycleStateState) {
	p.T.Helper()
	p.Do(call(page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: to}))
}
