package e2e

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"
)

func TestStatusPageFollowsTheServerAlsoAfterARestart(t *testing.T) {
	t.Parallel()
	a := start(t)
	b := browse(t)
	page := b.open(a.url + "/status")
	page.until(state("live"))
	page.until(figure("subscribers", "0"))
	a.get("/sse")
	page.until(figure("subscribers", "1"))
	page.until(figure("rate", "1")) // the clock
	page.until("document.getElementById('chart').getBBox().height > 0")

	b.offline.Store(true)
	a.stop(syscall.SIGTERM)
	page.until(state("reconnecting"))
	start(t, "PORT="+a.port)
	page.until(state("live"))
	page.until(figure("delivered", "0")) // of the new one
}

func TestStatusPageLetsGoOfItsStreamWhileNobodySeesIt(t *testing.T) {
	t.Parallel()
	a := start(t)
	b := browse(t)
	page := b.open(a.url + "/status")
	page.until(state("live"))
	look := func(hidden bool) { // a browser without a window shows every tab
		evaluate[chromedp.Void](page, fmt.Sprintf(`Object.defineProperty(document, 'hidden', { value: %v, configurable: true });
			void document.dispatchEvent(new Event('visibilitychange'))`, hidden))
	}
	look(true)
	a.out.Wait(t, `GET      "/status/sse"`) // the log has a stream when it is over
	look(false)
	a.get("/sse")
	page.until(figure("subscribers", "1"))
}

func TestStatusAndErrorsFitEveryScreenAndSchemeAndPassAxe(t *testing.T) {
	t.Parallel()
	a := start(t, "TICK_INTERVAL=50ms")
	axe := axeSource(t)
	b := browse(t)
	b.offline.Store(true) // the answer 404 is written to the console
	for range 3 {
		a.get("/sse")
	}
	page := b.open(a.url + "/status")
	page.until(state("live"))
	page.until("document.getElementById('chart').getBBox().width > 2")
	missing := b.open(a.url + "/nope")

	for name, page := range map[string]*tab{"status": page, "error": missing} {
		for _, width := range []int64{1000, 390, 320} {
			for _, scheme := range []string{"light", "dark"} {
				name := fmt.Sprintf("%s-%d-%s", name, width, scheme)
				page.do(chromedp.EmulateViewport(width, 640, chromedp.EmulateScale(2)), prefer(scheme))
				if wide := evaluate[int](page, "document.documentElement.scrollWidth"); wide > int(width) {
					t.Errorf("%s: %d pixels wide", name, wide)
				}
				page.picture(name)
				page.passes(axe, name)
			}
		}
	}

	// One look is enough on a phone.
	page.do(chromedp.EmulateViewport(320, 568))
	if bottom := evaluate[float64](page, "document.getElementById('memory').getBoundingClientRect().bottom"); bottom > 568 {
		t.Errorf("the last figure ends at %.0f pixels of 568", bottom)
	}

	for _, link := range []*tab{page, missing} {
		link.do(chromedp.Click("a[href='/']"))
		link.until("location.pathname === '/' && document.getElementById('sse-data').childElementCount > 0")
	}
}

// figure is true once the page shows that value.
func figure(id, value string) string {
	return fmt.Sprintf("document.getElementById(%q).textContent === %q", id, value)
}
