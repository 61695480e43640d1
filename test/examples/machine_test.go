package examples

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"

	"gin-sse/internal/testsse"
	"gin-sse/test/internal/app"
	"gin-sse/test/internal/browser"
	"gin-sse/test/internal/child"
)

// startDashboard starts docs/examples/machine with the commands of its README, and returns the push server.
func startDashboard(t *testing.T) *app.Server {
	t.Helper()
	root := t.TempDir()
	for _, folder := range []string{"public", "docs/examples/machine"} {
		if err := os.CopyFS(filepath.Join(root, folder), os.DirFS(filepath.Join("..", "..", folder))); err != nil {
			t.Fatal(err)
		}
	}
	copied := child.Command(t.Context(), "sh", "-c", inREADME(t, "machine", "cp -r docs/examples/machine/machines public/"))
	copied.Dir = root
	if out, err := copied.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	env, _ := settings(inREADME(t, "machine", "PUBLISH_TOKEN=secret go run main.go"))
	return app.StartIn(t, root, append(env, "GIN_MODE=debug", "TICK_INTERVAL=0")...)
}

// publishFigures runs figures.php, as the README does, for a machine of that name.
func publishFigures(t *testing.T, push *app.Server, name string) {
	t.Helper()
	_, words := settings(inREADME(t, "machine", "PUBLISH_TOKEN=secret php docs/examples/machine/figures.php"))
	startExample(t, strings.Join(append(words, name), " "), "The figures of "+name, "PUBLISH_TOKEN=secret", "PUSH_URL="+push.URL)
}

// figures tells whether a page shows so many of a machine, each with a value.
func figures(machine string, n int) string {
	return fmt.Sprintf("[...document.getElementById(%q)?.querySelectorAll('dd:first-of-type') ?? []].filter((value) => value.textContent !== '').length >= %d", machine, n)
}

func TestADashboardHasTheCurrentValuesOfEachMachineAtOnce(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		push := startDashboard(t)
		publishFigures(t, push, "web-1")
		page := b.Open(push.URL + "/machines/")
		page.Until("document.querySelector('output').value === 'Live'")
		page.Until(figures("web-1", 2)) // the load and a disk are known everywhere
		page.Until("document.querySelector('#web-1 polyline').getAttribute('points').split(' ').length >= 3")
		for _, text := range []string{"1 job", "2 jobs", "<b>3</b> jobs"} {
			publishFigure(t, push, "web-2/queue", fmt.Sprintf(`{"name":"Queue","text":%q,"part":null}`, text))
		}
		late := b.Open(push.URL + "/machines/")
		for _, p := range []*browser.Tab{page, late} {
			p.Until(figures("web-1", 2) + " && document.getElementById('web-2')?.querySelector('dd').textContent === '<b>3</b> jobs'")
		}
		late.Run("const now = Date.now; Date.now = () => now() + 60_000;")
		late.Until("document.getElementById('web-2').querySelector('.old') !== null")

		kept := testsse.ReadAll(t, push.Get("/sse?topic=machines/*&follow=false").Body)
		for line := range strings.Lines(kept) {
			if strings.HasPrefix(line, "topic:") && strings.Count(kept, line) != 1 {
				t.Errorf("more than the newest value of %s is kept:\n%s", strings.TrimSpace(line), kept)
			}
		}
	})
}

// publishFigure publishes a figure as the README does with curl.
func publishFigure(t *testing.T, push *app.Server, topic, figure string) {
	t.Helper()
	out := output(t, "curl", "-sS", "-H", "Authorization: Bearer secret", "-H", "Content-Type: application/json", "-d", figure, push.URL+"/sse?topic=machines/"+topic+"&replace=true")
	if !strings.Contains(out, `"id"`) {
		t.Fatalf("not published: %s", out)
	}
}

func TestADashboardGoesOnWhenThePushServerIsBack(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		b.Offline.Store(true)
		push := startDashboard(t)
		publishFigures(t, push, "web-1")
		page := b.Open(push.URL + "/machines/")
		page.Until(figures("web-1", 2))
		push.Stop(syscall.SIGKILL)
		page.Until("document.querySelector('output').value.startsWith('Connection lost')")
		app.Start(t, "PORT="+push.Port, "PUBLISH_TOKEN=secret")
		page.Until("document.querySelector('output').value === 'Live' && document.querySelectorAll('.old').length === 0")
	})
}

func TestADashboardFitsEveryScreenAndSchemeAndPassesAxe(t *testing.T) {
	t.Parallel()
	axe := browser.Axe(t)
	push := startDashboard(t)
	publishFigures(t, push, "web-1")
	publishFigure(t, push, "a-machine-with-"+strings.Repeat("a-long-", 15)+"name/queue", `{"name":"Queue","text":"`+strings.Repeat("unbroken", 10)+`","part":null}`)
	page := browser.Chromium(t).Open(push.URL + "/machines/")
	page.Do(browser.Prefer("light"), chromedp.EmulateViewport(900, 260, chromedp.EmulateScale(2)))
	page.Until(figures("web-1", 2) + " && document.querySelector('#web-1 polyline').getAttribute('points').split(' ').length >= 3")
	page.Check("machine", axe)
}
