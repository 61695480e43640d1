package pages

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"gin-sse/test/internal/browser"
)

// With SCREENSHOTS in the environment, the path of a folder, what this test sees is written there.
func TestPageFitsEveryScreenAndSchemeAndPassesAxe(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	axe := browser.Axe(t)
	b := browser.Chromium(t)
	b.Offline.Store(true) // at the end
	page := b.Open(s.url)
	page.Until(state("live"))
	page.Check("empty", axe)

	at := func(second int) string { return fmt.Sprintf("Server Time: 2:03:%d PM", second) }
	tick := func(second int) {
		s.beat(fmt.Sprintf(`{"message":%q}`, at(second)))
		page.Until(fmt.Sprintf("document.body.innerText.includes(%q)", at(second)))
	}
	for second := 20; second < 25; second++ {
		tick(second)
	}
	page.Resize(1000, 560)
	page.Do(browser.Prefer("light"))
	page.Picture("first-run") // docs/screenshot.png
	page.Check("ticks", axe)
	s.send(`{"message":"Deploy started"}`, `{"message":"The backup of db-1 is complete"}`, `{"message":"Deploy finished"}`)
	tick(25)
	page.Until(shows(3))
	page.Check("message", axe)

	s.send(`{"host":"db-1","disk":{"used":0.93,"path":"/var/lib/postgresql"}}`, `{"message":""}`, `{"message":"שלום, עולם!"}`,
		`{"message":"`+strings.Repeat("a long message ", 40)+`"}`, `{"message":"`+strings.Repeat("unbroken", 20)+`"}`)
	page.Until(shows(8))
	page.Check("long", axe)

	s.change(func() { s.epoch++; s.status = 503 })
	page.Until(state("lost"))
	page.Check("lost", axe)

	s.send(`"one"`, `{"message":"The backup of db-2 is complete"}`)
	s.change(func() { s.status, s.lost = 0, 9 })
	page.Until(shows(10))
	page.Check("gap", axe)

	s.change(func() { s.epoch++; s.status = 204 })
	page.Until(state("ended"))
	page.Check("ended", axe)
}

func TestPageStaysSmallHoweverMuchComesIn(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	page := browser.Chromium(t).Open(s.url)
	page.Until(state("live"))

	sent := 0
	heapAfter := func(messages int) float64 {
		for sent < messages {
			var data []string
			for range 500 {
				sent++
				data = append(data, fmt.Sprintf(`{"message":"%d"}`, sent))
			}
			s.send(data...)
		}
		page.Until(fmt.Sprintf(headline+" === '%d'", sent))
		var used float64
		page.Do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			if _, err := cdp.Call(ctx, target, heapprofiler.CollectGarbage, cdp.Empty{}); err != nil {
				return err
			}
			heap, err := cdp.Call(ctx, target, runtime.GetHeapUsage, cdp.Empty{})
			used = heap.UsedSize
			return err
		}))
		return used
	}
	before := heapAfter(2_000)
	after := heapAfter(6_000)
	t.Logf("the script's heap: %.0f kB after 2,000 messages, %.0f kB after 6,000", before/1000, after/1000)
	if after > before+120_000 { // 30 bytes for each message
		t.Errorf("the script's heap grew from %.0f to %.0f bytes", before, after)
	}
	if got := len(browser.Evaluate[[]string](page, messageTexts)); got != 500 {
		t.Errorf("the page keeps %d lines, want 500", got)
	}
}
