package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestPageShowsEverySecondAndGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	a := start(t)
	b := browse(t)
	page := b.open(a.url)
	page.until("document.title === 'Server-Sent Events Example'")
	page.until(enough(0, 4))
	everySecond(t, page.lines())

	b.offline.Store(true)
	a.stop(syscall.SIGTERM)
	page.until("document.getElementById('status').dataset.state === 'reconnecting'")
	seen := len(page.lines())
	start(t, "PORT="+a.port)
	page.until(enough(seen, 3))
	b.offline.Store(false)
	page.until(enough(seen, 4))
	everySecond(t, page.lines()[seen:])
}

// enough is true when the page shows so many lines more than those already seen.
func enough(seen, more int) string {
	return fmt.Sprintf("document.querySelectorAll('#sse-data p').length >= %d", seen+more)
}

// lines is what the page shows, the oldest first.
func (p *tab) lines() []string {
	p.t.Helper()
	lines := evaluate[[]string](p, "Array.from(document.querySelectorAll('#sse-data p'), (line) => line.textContent)")
	slices.Reverse(lines)
	return lines
}

// everySecond fails the test unless each line is the time one second after the line before.
func everySecond(t *testing.T, lines []string) {
	t.Helper()
	var before time.Time
	for i, line := range lines {
		text, ok := strings.CutPrefix(line, "Server Time: ")
		at, err := time.Parse("3:04:05 PM", text)
		if !ok || err != nil {
			t.Fatalf("%q is no time", line)
		}
		if step := at.Sub(before); i > 0 && step != time.Second && step != time.Second-24*time.Hour {
			t.Errorf("after %s came %s", before.Format("3:04:05 PM"), text)
		}
		before = at
	}
}
