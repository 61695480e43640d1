package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// state is true when the page says that the connection does like that.
func state(name string) string {
	return fmt.Sprintf("document.getElementById('connection')?.dataset.state === %q", name)
}

// messageTexts is the page's list, the oldest first.
const messageTexts = "Array.from(document.querySelectorAll('.messages li'), (line) => line.querySelector('p, pre').textContent)"

// headline is what stands in large type.
const headline = "document.querySelector('.headline')?.textContent"

func shows(n int) string { return fmt.Sprintf("%s.length >= %d", messageTexts, n) }

func TestPageShowsEverySecondAndGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	a := start(t)
	b := browse(t)
	page := b.open(a.url)
	page.until("document.title === 'Server-Sent Events Example'")
	clock := func() []string {
		return evaluate[[]string](page, "[...document.querySelectorAll('.headline, .ticks li')].map((line) => line.textContent).filter(Boolean).reverse()")
	}
	page.until("Boolean(document.querySelectorAll('.ticks li')[3]?.textContent)")
	everySecond(t, clock())

	b.offline.Store(true)
	a.stop(syscall.SIGTERM)
	page.until(state("lost"))
	page.until(`/lost( [1-9]\d* s ago)Try now$/.test(document.getElementById('connection').textContent)`)
	before := clock()
	start(t, "PORT="+a.port)
	page.run("document.querySelector('#connection button').click()")
	page.until(state("live"))
	b.offline.Store(false)
	page.until(fmt.Sprintf("document.querySelectorAll('.ticks li')[3].textContent > %q", before[len(before)-1]))
	everySecond(t, clock())
}

func TestPageResumesFromTheServersHistoryAndIsToldOfAGapAfterARestart(t *testing.T) {
	t.Parallel()
	a := start(t, "PUBLISH_TOKEN="+token, "TICK_INTERVAL=0")
	network := newRelay(t, "127.0.0.1:"+a.port)
	b := browse(t)
	page := b.open(strings.Replace(network.url, "127.0.0.1", "localhost", 1))
	page.until(state("live"))
	b.offline.Store(true)
	network.cut() // before any message
	page.until(state("lost"))
	a.publish(`{"message":"one"}`)
	a.publish(`{"message":"two"}`)
	page.until(shows(2))
	network.cut()
	a.publish(`{"message":"three"}`)
	page.until(shows(3))
	a.stop(syscall.SIGTERM)
	page.until(state("lost"))
	again := start(t, "PUBLISH_TOKEN="+token, "TICK_INTERVAL=0", "PORT="+a.port)
	again.publish(`{"message":"four"}`)
	page.until(shows(5))
	if got, want := evaluate[[]string](page, messageTexts), []string{"one", "two", "three", "Some messages were missed", "four"}; !slices.Equal(got, want) {
		t.Errorf("the page shows %q, want %q", got, want)
	}
}

func TestPageShowsWhatItShowedAfterAReloadAndAVisitElsewhere(t *testing.T) {
	t.Parallel()
	inEachBrowser(t, func(t *testing.T, b *browser) {
		s := newStage(t)
		b.offline.Store(true) // a stream may be cut off while its page goes
		other := b.open(s.url)
		address := s.url + "/?topic=a&lastEventId=earliest"
		page := b.open(address)
		page.until(state("live"))
		s.send(`{"message":"one"}`, `{"message":"two"}`)
		page.until(shows(2))

		at := "document.querySelector('.messages time').dateTime"
		published := evaluate[string](page, at)
		page.run("location.reload()")
		s.until(t, func() bool { return s.opened >= 3 })
		page.until(shows(2))
		page.until(headline + " === 'two'")
		if got := evaluate[string](page, at); got != published {
			t.Errorf("the first message was published at %s before the reload, and %s after it", published, got)
		}
		page.navigate(s.url + "/elsewhere")
		page.until("document.title === 'elsewhere'")
		s.send(`{"message":"three"}`)
		page.run("history.back()")
		page.until(shows(3))
		page.navigate(s.url + "/elsewhere")
		page.until("document.title === 'elsewhere'")
		s.send(`{"message":"four"}`)
		page.navigate(address)
		page.until(shows(4))
		for _, tab := range []*tab{page, other} { // the other tab is on another topic, and has seen all of this stage's
			tab.until(shows(4))
			if got, want := evaluate[[]string](tab, messageTexts), []string{"one", "two", "three", "four"}; !slices.Equal(got, want) {
				t.Errorf("the page shows %q, want %q", got, want)
			}
		}
		fresh := b.open(s.url + "/?topic=a")
		fresh.until(state("live"))
		if got := evaluate[[]string](fresh, messageTexts); len(got) > 0 {
			t.Errorf("a new tab shows %q", got)
		}
	})
}

func TestNothingMovesUnderAReader(t *testing.T) {
	t.Parallel()
	inEachBrowser(t, func(t *testing.T, b *browser) {
		s := newStage(t)
		page := b.open(s.url)
		if err := page.window.resize(375, 667); err != nil { // Firefox and WebKit stop at about 500
			t.Fatal(err)
		}
		page.until(state("live"))
		s.beat(`{"message":"tick 0"}`)
		page.until(headline + " === 'tick 0'")
		page.run(`
			window.shift = 0;
			try { new PerformanceObserver((list) => list.getEntries().forEach(({ value }) => window.shift += value)).observe({ type: 'layout-shift' }) } catch {}
		`)
		// A minute's worth of it, as fast as the page shows it; then as much again for a reader who looks at the third message.
		place := func(selector string) float64 {
			return evaluate[float64](page, fmt.Sprintf("document.querySelector(%q).getBoundingClientRect().top", selector))
		}
		fixed := []string{"header", ".headline", ".ticks", ".messages"}
		before := map[string]float64{}
		for _, selector := range fixed {
			before[selector] = place(selector)
		}
		var reading float64
		for i := range 150 {
			s.beat(fmt.Sprintf(`{"message":"tick %d"}`, i+1))
			if i%2 == 0 || i > 60 {
				s.send(fmt.Sprintf(`{"message":"message %d %s"}`, i, strings.Repeat("and more ", i%20)))
			}
			page.until(fmt.Sprintf("document.querySelector('.ticks li').textContent === 'tick %d'", i+1))
			switch {
			case i == 80:
				page.run("const reading = document.querySelectorAll('.messages li')[45]; reading.id = 'reading'; reading.scrollIntoView()")
				reading = place("#reading")
			case i > 80:
				if at := place("#reading"); at != reading {
					t.Fatalf("after message %d the line that is read is at %v, before at %v", i, at, reading)
				}
			}
		}
		for _, selector := range fixed {
			if at := place(selector); at != before[selector] {
				t.Errorf("%s is at %v, before at %v", selector, at, before[selector])
			}
		}
		if shift := evaluate[float64](page, "window.shift"); shift >= 0.1 {
			t.Errorf("the layout shifted by %v", shift)
		}
	})
}

func TestMessagesAreShownAsTextWhateverTheyAre(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	page := browse(t).open(s.url)
	page.until(state("live"))
	sent := []string{`{"message":"<img src=x onerror=alert(1)><b>bold</b>"}`, `{"message":"two\nlines"}`, `"text"`, `null`, `7`, `[]`, `{"message":1}`, `{"temperature":21.5}`, `{"message":""}`}
	want := []string{"<img src=x onerror=alert(1)><b>bold</b>", "two\nlines", "text", "null", "7", "[]", "{\n  \"message\": 1\n}", "{\n  \"temperature\": 21.5\n}", "{\n  \"message\": \"\"\n}"}
	s.send(sent...)
	page.until(shows(len(want)))
	if got := evaluate[[]string](page, messageTexts); !slices.Equal(got, want) {
		t.Errorf("the page shows %q, want %q", got, want)
	}
	if got := evaluate[string](page, headline); got != "text" {
		t.Errorf("%q is in large type, want the newest message in words", got)
	}
	if evaluate[bool](page, "document.querySelector('#sse-data img, #sse-data b') !== null") {
		t.Error("a message has become markup")
	}

	s.send(`{"message":"` + strings.Repeat("long ", 200) + `"}`)
	page.until(shows(len(want) + 1))
	page.until("document.querySelectorAll('.messages .clamped').length === 1")
	page.run("document.querySelector('.messages li:last-child button').click()")
	page.until("document.querySelectorAll('.messages .clamped').length === 0")
}

func TestPausedPageWaitsAndThenShowsWhatCame(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	page := browse(t).open(s.url)
	page.until(state("live"))
	page.run("document.querySelector('.bar button').click()")
	s.send(`{"message":"one"}`, `{"message":"two"}`)
	page.until("document.querySelector('.bar button').textContent === 'Resume (2)'")
	if got := evaluate[[]string](page, messageTexts); len(got) > 0 {
		t.Errorf("a paused page shows %q", got)
	}
	page.run("document.querySelector('.bar button').click()")
	page.until(headline + " === 'two' && " + shows(2))
	page.until("document.querySelector('.announcement').textContent === '2 messages. The latest: two'")
}

func TestPageWorksWithTheBrowsersOwnEventSourceWithoutItsFirstLine(t *testing.T) {
	t.Parallel()
	inEachBrowser(t, func(t *testing.T, b *browser) {
		s := newStage(t)
		s.change(func() { s.native = true })
		b.offline.Store(true)
		s.beat(`{"message":"tick"}`)
		page := b.open(s.url)
		page.until(state("live"))
		page.until(headline + " === 'tick'")
		s.send(`{"message":"one"}`)
		page.until(shows(1))
		s.change(func() { s.epoch++ })
		s.send(`{"message":"two"}`)
		page.until(shows(2))
		s.beat(`{"message":"tock"}`)
		page.until("document.querySelector('.ticks li').textContent === 'tock'")
		if got, want := evaluate[[]string](page, messageTexts), []string{"one", "two"}; !slices.Equal(got, want) {
			t.Errorf("the page shows %q, want %q", got, want)
		}
	})
}

func TestTheBrowsersOwnEventSourceResumes(t *testing.T) {
	t.Parallel()
	inEachBrowser(t, func(t *testing.T, b *browser) {
		a := start(t, "PUBLISH_TOKEN="+token, "TICK_INTERVAL=0")
		network := newRelay(t, "127.0.0.1:"+a.port)
		b.offline.Store(true)
		page := b.open(network.url + "/nope")
		page.until("location.pathname === '/nope' && document.readyState === 'complete'")
		page.run("window.got = []; window.es = new EventSource('/sse'); es.onmessage = ({ data }) => window.got.push(JSON.parse(data).message)")
		page.until("es.readyState === 1")
		network.cut() // before any message
		a.publish(`{"message":"one"}`)
		page.until("got.length === 1")
		network.cut()
		a.publish(`{"message":"two"}`)
		page.until("got.length === 2")
		if got, want := evaluate[[]string](page, "got"), []string{"one", "two"}; !slices.Equal(got, want) {
			t.Errorf("it got %q, want %q", got, want)
		}
	})
}

func TestAnotherSiteImportsTheModuleAndSendsItsCookies(t *testing.T) {
	t.Parallel()
	inEachBrowser(t, func(t *testing.T, b *browser) {
		here, there := newStage(t), newStage(t)
		there.change(func() { there.allowed = here.url })
		page := b.open(there.url + "/elsewhere")
		page.until("document.title === 'elsewhere'")
		page.run("document.cookie = 'stage=secret'")
		page.navigate(here.url + "/elsewhere?here")
		page.until("location.search === '?here' && document.readyState === 'complete'")
		page.run(fmt.Sprintf(`window.got = []; import('%[1]s/lib/shared-event-source.js').then(({ SharedEventSource }) => {
			window.source = new SharedEventSource('%[1]s/sse', { withCredentials: true });
			source.onmessage = ({ data, origin }) => window.got.push(data, origin);
		})`, there.url))
		page.until("window.source?.readyState === 1")
		there.send("1")
		there.cut()
		there.send("2")
		page.until("got.length === 4")
		if got, want := evaluate[[]string](page, "got"), []string{"1", there.url, "2", there.url}; !slices.Equal(got, want) {
			t.Errorf("it got %q, want %q", got, want)
		}
		there.mu.Lock()
		defer there.mu.Unlock()
		if there.cookie != "secret" || there.preflights > 0 {
			t.Errorf("the cookie is %q, and there were %d requests for permission", there.cookie, there.preflights)
		}
	})
}

func TestPageSaysWhatIsMissingWithoutJavaScript(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	page := browse(t).open("about:blank")
	page.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}), chromedp.Navigate(s.url))
	text := evaluate[string](page, "document.body.innerText")
	if !strings.Contains(text, "JavaScript") || strings.Contains(text, "Nothing") {
		t.Errorf("the page shows %q", text)
	}
}

func TestPageSaysWhenItMayNotReadATopic(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	b := browse(t)
	b.offline.Store(true)
	s.change(func() { s.status = http.StatusForbidden })
	b.open(s.url).until(state("refused"))
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
