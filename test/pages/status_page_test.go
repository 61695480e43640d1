package pages

import (
	"fmt"
	"syscall"
	"testing"

	"gin-sse/test/internal/app"
	"gin-sse/test/internal/browser"
)

func TestStatusPageFollowsTheServerAlsoAfterARestart(t *testing.T) {
	t.Parallel()
	a := app.Start(t)
	b := browser.Chromium(t)
	page := b.Open(a.URL + "/status")
	page.Until(state("live"))
	page.Until(figure("subscribers", "0"))
	a.Get("/sse")
	page.Until(figure("subscribers", "1"))
	page.Until(figure("rate", "1")) // the clock
	page.Until("document.getElementById('chart').getBBox().height > 0")

	b.Offline.Store(true)
	a.Stop(syscall.SIGTERM)
	page.Until(state("lost"))
	app.Start(t, "PORT="+a.Port)
	page.Until(state("live"))
	page.Until(figure("delivered", "0")) // of the new one
}

func TestStatusPageLetsGoOfItsStreamWhileNobodySeesIt(t *testing.T) {
	t.Parallel()
	a := app.Start(t)
	b := browser.Chromium(t)
	page := b.Open(a.URL + "/status")
	page.Until(state("live"))
	look := func(hidden bool) { // a browser without a window shows every tab
		page.Run(fmt.Sprintf(`Object.defineProperty(document, 'hidden', { value: %v, configurable: true });
			document.dispatchEvent(new Event('visibilitychange'))`, hidden))
	}
	look(true)
	a.Out.Wait(t, `GET      "/status/sse"`) // the log has a stream when it is over
	look(false)
	a.Get("/sse")
	page.Until(figure("subscribers", "1"))
}

func TestStatusAndErrorsFitEveryScreenAndSchemeAndPassAxe(t *testing.T) {
	t.Parallel()
	a := app.Start(t, "TICK_INTERVAL=50ms")
	axe := browser.Axe(t)
	b := browser.Chromium(t)
	b.Offline.Store(true) // the answer 404 is written to the console
	for range 3 {
		a.Get("/sse")
	}
	page := b.Open(a.URL + "/status")
	page.Until(state("live"))
	page.Until("document.getElementById('chart').getBBox().width > 2")
	missing := b.Open(a.URL + "/nope")

	page.Run("document.getElementById('subscribers').textContent = '2,800,000'") // a second later it is right again
	page.Check("status", axe)
	missing.Check("error", axe)

	for _, link := range []*browser.Tab{page, missing} {
		link.Run("document.querySelector('nav a, .error a').click()")
		link.Until("location.pathname === '/' && document.getElementById('sse-data').childElementCount > 0")
	}
}

// figure is true once the page shows that value.
func figure(id, value string) string {
	return fmt.Sprintf("document.getElementById(%q).textContent === %q", id, value)
}
