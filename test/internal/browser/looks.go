package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"gin-sse/test/internal/npm"
)

// Check fails the test if the page does not fit a screen or is not accessible there.
func (p *Tab) Check(name, axe string) {
	p.T.Helper()
	for _, screen := range [][2]int{{1280, 800}, {820, 1000}, {375, 667}, {320, 560}} {
		for _, scheme := range []string{"light", "dark"} {
			name := fmt.Sprintf("%s-%d-%s", name, screen[0], scheme)
			p.Resize(screen[0], screen[1])
			p.Do(Prefer(scheme))
			if wide := Evaluate[int](p, "document.documentElement.scrollWidth"); wide > screen[0] {
				p.T.Errorf("%s: %d pixels wide on a screen of %d", name, wide, screen[0])
			}
			if dark := Evaluate[string](p, "getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"; dark != (scheme == "dark") {
				p.T.Errorf("%s: the colours are not those of the scheme", name)
			}
			p.Picture(name)
			p.passes(axe, name)
		}
	}
}

// Axe is the script of axe-core, as npm delivers it.
func Axe(t *testing.T) string {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(npm.Install(t), "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}

// passes fails the test for everything that axe-core finds wrong with the page.
func (p *Tab) passes(axe, name string) {
	p.T.Helper()
	_ = Evaluate[any](p, "void (globalThis.axe || (() => {"+axe+"})())")
	var result struct {
		Passes     []json.RawMessage
		Violations []struct {
			ID, Help string
			Nodes    []struct{ HTML, FailureSummary string }
		}
	}
	found := Evaluate[string](p, "Promise.all(document.getAnimations().map((a) => a.finished.catch(() => {}))).then(() => axe.run()).then(JSON.stringify)")
	if err := json.Unmarshal([]byte(found), &result); err != nil {
		p.T.Fatal(err)
	}
	if len(result.Passes) == 0 {
		p.T.Errorf("%s: axe has checked nothing", name)
	}
	for _, violation := range result.Violations {
		p.T.Errorf("%s: axe finds %s (%s) at %+v", name, violation.ID, violation.Help, violation.Nodes)
	}
}

// Prefer sets the colour scheme that the user prefers.
func Prefer(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
		return err
	})
}
