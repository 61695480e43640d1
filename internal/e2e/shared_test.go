package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/debugger"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

const isOpen = "source.readyState === 1"

func TestTabsShareOneStreamAndLoseNothingWhenTheLeadingTabGoes(t *testing.T) {
	t.Parallel()
	inEachBrowser(t, func(t *testing.T, b *browser) {
		s := newStage(t)
		const n = 8 // more than a browser has connections for one server
		var tabs []*tab
		for range n {
			tabs = append(tabs, b.open(s.url+"/tab"))
		}
		for _, tab := range tabs {
			tab.until(isOpen)
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
		tabs[0].until("got.length > 10")
		for i, leave := range []func(*tab){
			func(p *tab) { p.close() },
			func(p *tab) { p.run("source.close()"); p.close() },
			func(p *tab) { p.navigate(s.url + "/elsewhere") },
		} {
			at := slices.IndexFunc(tabs, (*tab).leads)
			if at < 0 {
				t.Fatal("no tab leads")
			}
			leave(tabs[at])
			tabs = slices.Delete(tabs, at, at+1)
			s.until(t, func() bool { return s.opened == i+2 })
		}
		publishing.Wait()
		for _, tab := range tabs {
			tab.until(fmt.Sprintf("got.length >= %d", messages))
			tab.wants(t, 1, messages)
		}
		s.until(t, func() bool { return s.open == 1 })
	})
}

func (p *tab) leads() bool {
	p.t.Helper()
	return evaluate[bool](p, "streams > 0")
}

// wants fails the test unless the tab got these numbers, each once and in order.
func (p *tab) wants(t *testing.T, from, to int) {
	t.Helper()
	var want []string
	for n := from; n <= to; n++ {
		want = append(want, fmt.Sprint(n))
	}
	if got := evaluate[[]string](p, "got"); !slices.Equal(got, want) {
		t.Errorf("a tab got %q, want %d to %d", got, from, to)
	}
}

func TestATabThatWasAwayGetsWhatItMissedAndNoOtherTabGetsItTwice(t *testing.T) {
	t.Parallel()
	inEachBrowser(t, func(t *testing.T, b *browser) {
		for _, leads := range []bool{true, false} { // whether the tab that goes leads
			s := newStage(t)
			tabs := []*tab{b.open(s.url + "/tab"), b.open(s.url + "/tab"), b.open(s.url + "/tab")}
			for _, tab := range tabs {
				tab.until(isOpen)
			}
			s.send("1", "2")
			for _, tab := range tabs {
				tab.until("got.length === 2")
			}
			gone := tabs[slices.IndexFunc(tabs, func(p *tab) bool { return p.leads() == leads })]
			gone.run("window.mark = 1")
			gone.navigate(s.url + "/elsewhere")
			gone.until("document.title === 'elsewhere'")
			s.until(t, func() bool { return s.open == 1 })
			s.send("3", "4")
			for _, tab := range tabs {
				if tab != gone {
					tab.until("got.length === 4")
				}
			}
			gone.run("history.back()")
			gone.until("document.title === 'tab' && source?.readyState === 1")
			kept := evaluate[bool](gone, "window.mark === 1")
			// Firefox keeps no page that had a stream or a lock when its user left, and WebKit few pages for all tabs.
			if !kept && b.name == "Chromium" {
				t.Errorf("%s did not keep the page (leading: %v)", b.name, leads)
			}
			s.send("5")
			for _, tab := range tabs {
				if tab != gone || kept {
					tab.until("got.includes('5')")
					tab.wants(t, 1, 5)
				}
			}
			s.until(t, func() bool { return s.open == 1 })
		}
	})
}

func TestAnAddressWithAnIdResumesThereAndTheOtherTabsGoOn(t *testing.T) {
	t.Parallel()
	inEachBrowser(t, func(t *testing.T, b *browser) {
		s := newStage(t)
		first := b.open(s.url + "/tab")
		first.until(isOpen)
		s.send("1", "2", "3", "4")
		first.until("got.length === 4")
		s.beat("tick")
		first.until("ticks.length === 1")
		second := b.open(s.url + "/tab?url=/sse?lastEventId=e-2")
		second.until("got.length === 2")
		second.wants(t, 3, 4)
		third := b.open(s.url + "/tab")
		third.until(isOpen)
		s.send("5")
		for at, tab := range []*tab{first, second, third} {
			tab.until("got.includes('5')")
			tab.wants(t, []int{1, 3, 5}[at], 5)
			if ticks := evaluate[[]string](tab, "ticks"); !slices.Equal(ticks, []string{"tick"}) {
				t.Errorf("tab %d got the ticks %q, want one", at, ticks)
			}
		}
		if open := s.get(&s.open); open != 1 {
			t.Errorf("%d streams are open", open)
		}
		other := b.open(s.url + "/tab?url=/sse?topic=other")
		other.until(isOpen)
		if open := s.get(&s.open); open != 2 {
			t.Errorf("%d streams are open for two addresses", open)
		}
	})
}

func TestATabThatWantsAllThatIsKeptTakesTheConnectionOnceAndTheOtherTabsGoOn(t *testing.T) {
	t.Parallel()
	inEachBrowser(t, func(t *testing.T, b *browser) {
		s := newStage(t)
		first := b.open(s.url + "/tab?url=/sse?lastEventId=earliest")
		s.send("1", "2", "3", "4")
		first.until("got.length === 4")
		second := b.open(s.url + "/tab?url=/sse?lastEventId=earliest")
		for n := 5; n <= 20; n++ { // while the connection changes hands
			s.send(fmt.Sprint(n))
			second.until(fmt.Sprintf("got.length >= %d", n))
		}
		for _, tab := range []*tab{first, second} {
			tab.until("got.length >= 20 && " + isOpen)
			tab.wants(t, 1, 20)
		}
		if opened := s.get(&s.opened); opened != 2 {
			t.Errorf("the tabs opened %d streams one after the other, want 2", opened)
		}
	})
}

func TestEveryTabIsToldOnceWhatIsMissing(t *testing.T) {
	t.Parallel()
	inEachBrowser(t, func(t *testing.T, b *browser) {
		s := newStage(t)
		b.offline.Store(true)
		tabs := []*tab{b.open(s.url + "/tab"), b.open(s.url + "/tab")}
		for _, tab := range tabs {
			tab.until(isOpen)
		}
		s.change(func() { s.epoch++; s.status = 503 })
		for _, tab := range tabs {
			tab.until("source.readyState === 0 && states.includes('error 503')")
		}
		s.send("1", "2", "3", "4", "5")
		s.change(func() { s.status, s.lost = 0, 3 })
		for _, tab := range tabs {
			tab.until("got.length === 3")
			if got, want := evaluate[[]string](tab, "got"), []string{`gap:{"missed":3}`, "4", "5"}; !slices.Equal(got, want) {
				t.Errorf("a tab got %q, want %q", got, want)
			}
		}
		s.change(func() { s.epoch++; s.status = 204 }) // for good
		for _, tab := range tabs {
			tab.until("source.readyState === 2 && states.at(-1) === 'error 204'")
		}
	})
}

func TestAConnectionThatDiedSilentlyIsReplaced(t *testing.T) {
	t.Parallel()
	inEachBrowser(t, func(t *testing.T, b *browser) {
		s := newStage(t)
		tab := b.open(s.url + "/tab?fast=20")
		tab.until(isOpen)
		s.send("1")
		tab.until("got.length === 1")
		s.until(t, func() bool { return s.opened >= 2 }) // 40 s of that clock without a byte
		tab.until("silences.length > 0")
		if silence := evaluate[[]float64](tab, "silences")[0]; silence < 40_000 {
			t.Errorf("the connection was replaced after %v ms", silence)
		}
		s.send("2")
		tab.until("got.length === 2")
		tab.wants(t, 1, 2)
	})
}

func TestWithoutLocksATabThatIsHiddenGivesItsConnectionUp(t *testing.T) {
	t.Parallel()
	inEachBrowser(t, func(t *testing.T, b *browser) {
		s := newStage(t)
		tab := b.open(s.url + "/tab?nolocks")
		look := func(hidden bool) {
			tab.run(fmt.Sprintf("Object.defineProperty(document, 'hidden', { value: %v, configurable: true }); document.dispatchEvent(new Event('visibilitychange'))", hidden))
		}
		tab.until("source !== undefined")
		look(false)
		tab.until(isOpen)
		s.send("1")
		tab.until("got.length === 1")
		look(true)
		s.until(t, func() bool { return s.open == 0 })
		s.send("2", "3")
		look(false)
		tab.until("got.length === 3")
		tab.wants(t, 1, 3)
	})
}

func TestAClosedEventSourceLeavesNothing(t *testing.T) {
	t.Parallel()
	inEachBrowser(t, func(t *testing.T, b *browser) {
		s := newStage(t)
		tab := b.open(s.url + "/tab")
		tab.until(isOpen)
		tab.run("source.close()")
		s.until(t, func() bool { return s.open == 0 })
		tab.until("navigator.locks.query().then(({ held, pending }) => held.length + pending.length === 0)")
		tab.run("dispatchEvent(new Event('pageshow')); dispatchEvent(new Event('online')); source.reconnect()")
		if opened := evaluate[int](tab, "opened"); opened != 1 || s.get(&s.opened) != 1 {
			t.Errorf("it opened %d streams", opened)
		}
	})
}

// WebDriver cannot crash or stop a tab.
func TestNothingIsLostOrDoubledWhenTheLeadingTabCrashesOrStops(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name            string
		leave, comeBack func(leading *tab)
	}{
		{name: "crashed", leave: func(leading *tab) { leading.crash() }},
		{
			name: "stuck",
			leave: func(leading *tab) {
				leading.do(call(debugger.Enable, debugger.EnableParams{}), call(debugger.Pause, cdp.Empty{}))
			},
			comeBack: func(leading *tab) { leading.do(call(debugger.Resume, debugger.ResumeParams{})) },
		},
		{
			name:     "frozen",
			leave:    func(leading *tab) { leading.lifecycle(page.SetWebLifecycleStateStateFrozen) },
			comeBack: func(leading *tab) { leading.lifecycle(page.SetWebLifecycleStateStateActive) },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			b := browse(t)
			tabs := []*tab{b.open(s.url + "/tab"), b.open(s.url + "/tab"), b.open(s.url + "/tab")}
			for _, tab := range tabs {
				tab.until(isOpen)
			}
			leading := slices.IndexFunc(tabs, (*tab).leads)
			gone := tabs[leading]
			s.send("1", "2")
			tabs[2].until("got.length === 2")
			test.leave(gone)
			tabs = slices.Delete(tabs, leading, leading+1)
			s.send("3", "4")
			s.until(t, func() bool { return s.opened == 2 })
			s.send("5", "6")
			for _, tab := range tabs {
				tab.until("got.length === 6")
			}
			if test.comeBack != nil {
				test.comeBack(gone)
				tabs = append(tabs, gone)
			}
			s.send("7")
			for _, tab := range tabs {
				tab.until("got.includes('7')")
				tab.wants(t, 1, 7)
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

func (p *tab) lifecycle(to page.SetWebLifecycleStateState) {
	p.t.Helper()
	p.do(call(page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: to}))
}
