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
	client := a.Raw("GET /sse?topic=silent HTTP/1.1\r\nHost: localhost\r\n\r\n") // nothing is sent to it any more
	page.Until(figure("subscribers", "1"))
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
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
	a.Out.Wait(t, `method=GET path=/status/sse `) // the log has a stream when it is over
	look(false)
	a.Get("/sse")
	page.Until(figure("subscribers", "1"))
}

func TestStatusAndErrorsFitEveryScreenAndSchemeAndPassAxe(t *testing.T) {
	t.Parallel()
	a := app.Start(t, "TICK_INTERVAL=50ms", "DATA_DIR="+t.TempDir()) // with a figure for the disk
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

	for _, width := range []int{1280, 820, 700, 375, 320} {
		page.Resize(width, 800)
		page.Run("document.getElementById('subscribers').textContent = '2,800,000'; document.getElementById('delivered').textContent = '12,345,678,901'") // a second later they are right again
		wrong := browser.Evaluate[[]string](page, `[...document.querySelectorAll('.figures')].flatMap((list) => {
			const rows = Object.groupBy(list.children, (card) => card.offsetTop + card.offsetHeight);
			const uneven = new Set(Object.values(rows).map((row) => row.length)).size > 1 ? ['a figure that stands alone'] : [];
			return uneven.concat([...list.querySelectorAll('dd')].filter((value) => value.scrollWidth > value.clientWidth || value.offsetHeight > 2 * parseFloat(getComputedStyle(value).fontSize)).map(({ textContent }) => textContent));
		})`)
		if len(wrong) > 0 {
			t.Errorf("at %d pixels there are %q", width, wrong)
		}
	}
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
