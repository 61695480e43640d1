package e2e

import (
	"fmt"
	"syscall"
	"testing"
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
	page.until(state("lost"))
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
		page.run(fmt.Sprintf(`Object.defineProperty(document, 'hidden', { value: %v, configurable: true });
			document.dispatchEvent(new Event('visibilitychange'))`, hidden))
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

	page.run("document.getElementById('subscribers').textContent = '2,800,000'") // a second later it is right again
	page.check("status", axe)
	missing.check("error", axe)

	for _, link := range []*tab{page, missing} {
		link.run("document.querySelector(\"a[href='/']\").click()")
		link.until("location.pathname === '/' && document.getElementById('sse-data').childElementCount > 0")
	}
}

// figure is true once the page shows that value.
func figure(id, value string) string {
	return fmt.Sprintf("document.getElementById(%q).textContent === %q", id, value)
}
