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
// README shows page-light.png and page-dark.png.
func TestPageFitsEveryScreenAndSchemeAndPassesAxe(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	axe := axeSource(t)
	b := browse(t)
	b.offline.Store(true) // at the end
	page := b.open(s.url)
	page.until(state("live"))
	check := func(name string, on *tab) {
		for _, screen := range []struct {
			name          string
			width, height int64
		}{{"", 1000, 640}, {"-phone", 390, 760}, {"-narrow", 320, 560}} {
			for _, scheme := range []string{"light", "dark"} {
				name := name + screen.name + "-" + scheme
				on.do(chromedp.EmulateViewport(screen.width, screen.height, chromedp.EmulateScale(2)), prefer(scheme))
				if wide := evaluate[int](on, "document.documentElement.scrollWidth"); wide > int(screen.width) {
					t.Errorf("%s: %d pixels wide on a screen of %d", name, wide, screen.width)
				}
				if dark := evaluate[string](on, "getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"; dark != (scheme == "dark") {
					t.Errorf("%s: the colours are not those of the scheme", name)
				}
				on.picture(name)
				on.passes(axe, name)
			}
		}
	}

	check("empty", page)
	at := func(second int) string { return fmt.Sprintf(`{"message":"Server Time: 2:03:%02d PM"}`, second) }
	for second := range 4 {
		s.beat(at(20 + second))
		page.until(lines(second + 1))
	}
	s.send(`{"message":"Deploy finished"}`)
	page.until(lines(5))
	s.beat(at(24))
	page.until(lines(6))
	s.beat(at(25))
	page.until(lines(7))
	check("page", page)

	other := b.open(s.url)
	other.until(state("shared"))
	check("shared", other)
	other.close()

	s.send(`{"message":"` + strings.Repeat("unbroken", 40) + `"}`)
	page.until(lines(8))
	check("long", page)

	s.change(func() { s.epoch++; s.full = true })
	page.until(state("reconnecting"))
	check("reconnecting", page)

	s.send(`{"host":"db-1","disk":{"used":0.93,"path":"/var/lib/postgresql"}}`, `"one"`, `{"message":"The backup of db-1 is complete"}`)
	s.change(func() { s.full = false; s.lost = 3 })
	page.until(lines(10))
	check("gap", page)
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
		page.until(fmt.Sprintf("document.querySelector('#sse-data p')?.textContent === '%d'", sent))
		return run(page, func(ctx context.Context, target *chromedp.Target) (float64, error) {
			if _, err := cdp.Call(ctx, target, heapprofiler.CollectGarbage, cdp.Empty{}); err != nil {
				return 0, err
			}
			heap, err := cdp.Call(ctx, target, runtime.GetHeapUsage, cdp.Empty{})
			return heap.UsedSize, err
		})
	}
	before := heapAfter(5_000) // ids are remembered so far
	after := heapAfter(15_000)
	t.Logf("the script's heap: %.0f kB after 5,000 messages, %.0f kB after 15,000", before/1000, after/1000)
	if after > before+300_000 { // 30 bytes for each message
		t.Errorf("the script's heap grew from %.0f to %.0f bytes", before, after)
	}
	if got := len(page.lines()); got != 100 {
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
	evaluate[chromedp.Void](p, "void (globalThis.axe || (() => {"+axe+"})())")
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

// picture writes a screenshot where they are asked for.
func (p *tab) picture(name string) {
	p.t.Helper()
	folder := os.Getenv("SCREENSHOTS")
	if folder == "" {
		return
	}
	picture := run(p, chromedp.CaptureScreenshot())
	if err := os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o644); err != nil {
		p.t.Fatal(err)
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
