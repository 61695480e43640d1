package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// With SCREENSHOTS in the environment, the path of a folder, what this test sees is written there. The
// README shows message-1000-light.png, as docs/screenshot.png.
func TestPageFitsEveryScreenAndSchemeAndPassesAxe(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	axe := axeSource(t)
	b := browse(t)
	b.offline.Store(true) // at the end
	page := b.open(s.url)
	page.until(state("live"))
	page.check("empty", axe)

	at := func(second int) string { return fmt.Sprintf("Server Time: 2:03:%d PM", second) }
	tick := func(second int) {
		s.beat(fmt.Sprintf(`{"message":%q}`, at(second)))
		page.until(fmt.Sprintf("document.body.innerText.includes(%q)", at(second)))
	}
	for second := 20; second < 25; second++ {
		tick(second)
	}
	page.check("ticks", axe)
	s.send(`{"message":"Deploy started"}`, `{"message":"The backup of db-1 is complete"}`, `{"message":"Deploy finished"}`)
	tick(25)
	page.until(shows(3))
	page.check("message", axe)

	s.send(`{"host":"db-1","disk":{"used":0.93,"path":"/var/lib/postgresql"}}`, `{"message":""}`, `{"message":"שלום, עולם!"}`,
		`{"message":"`+strings.Repeat("a long message ", 40)+`"}`, `{"message":"`+strings.Repeat("unbroken", 20)+`"}`)
	page.until(shows(8))
	page.check("long", axe)

	s.change(func() { s.epoch++; s.status = 503 })
	page.until(state("lost"))
	page.check("lost", axe)

	s.send(`"one"`, `{"message":"The backup of db-2 is complete"}`)
	s.change(func() { s.status, s.lost = 0, 9 })
	page.until(shows(10))
	page.check("gap", axe)

	s.change(func() { s.epoch++; s.status = 204 })
	page.until(state("ended"))
	page.check("ended", axe)
}

// check fails the test if the page does not fit a screen or is not accessible there.
func (p *tab) check(name, axe string) {
	p.t.Helper()
	for _, screen := range [][2]int{{1000, 640}, {375, 667}, {320, 560}} {
		for _, scheme := range []string{"light", "dark"} {
			name := fmt.Sprintf("%s-%d-%s", name, screen[0], scheme)
			if err := p.window.resize(screen[0], screen[1]); err != nil {
				p.t.Fatal(err)
			}
			p.do(prefer(scheme))
			if wide := evaluate[int](p, "document.documentElement.scrollWidth"); wide > screen[0] {
				p.t.Errorf("%s: %d pixels wide on a screen of %d", name, wide, screen[0])
			}
			if dark := evaluate[string](p, "getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"; dark != (scheme == "dark") {
				p.t.Errorf("%s: the colours are not those of the scheme", name)
			}
			p.picture(name)
			p.passes(axe, name)
		}
	}
}

func TestPageStaysSmallHoweverMuchComesIn(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	page := browse(t).open(s.url)
	page.until(state("live"))

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
		page.until(fmt.Sprintf(headline+" === '%d'", sent))
		var used float64
		page.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
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
	if got := len(evaluate[[]string](page, messageTexts)); got != 100 {
		t.Errorf("the page keeps %d lines, want 100", got)
	}
}

// axeSource is the script of axe-core, as npm delivers it.
func axeSource(t *testing.T) string {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(npm(t), "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}

// passes fails the test for everything that axe-core finds wrong with the page.
func (p *tab) passes(axe, name string) {
	p.t.Helper()
	_ = evaluate[any](p, "void (globalThis.axe || (() => {"+axe+"})())")
	var result struct {
		Passes     []json.RawMessage
		Violations []struct {
			ID, Help string
			Nodes    []struct{ HTML, FailureSummary string }
		}
	}
	found := evaluate[string](p, "Promise.all(document.getAnimations().map((a) => a.finished.catch(() => {}))).then(() => axe.run()).then(JSON.stringify)")
	if err := json.Unmarshal([]byte(found), &result); err != nil {
		p.t.Fatal(err)
	}
	if len(result.Passes) == 0 {
		p.t.Errorf("%s: axe has checked nothing", name)
	}
	for _, violation := range result.Violations {
		p.t.Errorf("%s: axe finds %s (%s) at %+v", name, violation.ID, violation.Help, violation.Nodes)
	}
}

// prefer sets the colour scheme that the user prefers.
func prefer(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
		return err
	})
}
