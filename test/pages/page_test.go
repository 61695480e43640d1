package pages

import (
	"context"
	"fmt"
	"io"
	"log"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"gin-sse/test/internal/app"
	"gin-sse/test/internal/browser"
	"gin-sse/test/internal/relay"
)

func TestPageMissesNothingWhenAServerThatKeepsMessagesIsRestarted(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a folder", "with spaces")
	env := []string{"DATA_DIR=" + dir, "PUBLISH_TOKEN=" + app.Token, "TICK_INTERVAL=0"}
	a := app.Start(t, env...)
	b := browser.Chromium(t)
	page := b.Open(a.URL)
	page.Until(state("live"))
	a.Publish(`{"message":"one"}`)
	page.Until(shows(1))
	b.Offline.Store(true)
	a.StopPolitely(syscall.SIGTERM)
	page.Until(state("lost"))
	again := app.Start(t, append(env, "PORT="+a.Port)...)
	again.Publish(`{"message":"two"}`)
	page.Until(shows(2))
	if got, want := browser.Evaluate[[]string](page, messageTexts), []string{"one", "two"}; !slices.Equal(got, want) {
		t.Errorf("the page shows %q, want %q", got, want)
	}
	status := b.Open(again.URL + "/status")
	status.Until(state("live"))
	status.Until(`/^\d+ kB$/.test(document.getElementById('disk').textContent)`)
	status.Picture("status-disk")
}

// state is true when the page says that the connection does like that.
func state(name string) string {
	return fmt.Sprintf("document.getElementById('connection')?.dataset.state === %q", name)
}

// messageTexts is the page's list, the oldest first.
const messageTexts = "Array.from(document.querySelectorAll('.messages li:not(.omitted)'), (line) => line.querySelector('p, pre').textContent)"

// headline is what stands in large type.
const headline = "document.querySelector('.headline')?.textContent"

func shows(n int) string { return fmt.Sprintf("%s.length >= %d", messageTexts, n) }

func TestPageShowsEverySecondAndGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	a := app.Start(t)
	b := browser.Chromium(t)
	page := b.Open(a.URL)
	page.Until("document.title === 'Server-Sent Events Example'")
	clock := func() []string {
		return browser.Evaluate[[]string](page, "[...document.querySelectorAll('.headline, .ticks li')].map((line) => line.textContent).filter(Boolean).reverse()")
	}
	page.Until("Boolean(document.querySelectorAll('.ticks li')[3]?.textContent)")
	everySecond(t, clock())

	b.Offline.Store(true)
	a.Stop(syscall.SIGTERM)
	page.Until(state("lost"))
	page.Until(`/lost( [1-9]\d* s ago)Try now$/.test(document.getElementById('connection').textContent)`)
	before := clock()
	app.Start(t, "PORT="+a.Port)
	page.Run("document.querySelector('#connection button').click()")
	page.Until(state("live"))
	b.Offline.Store(false)
	page.Until(fmt.Sprintf("document.querySelectorAll('.ticks li')[3].textContent > %q", before[len(before)-1]))
	everySecond(t, clock())
}

func TestPageResumesFromTheServersHistoryAndIsToldOfAGapAfterARestart(t *testing.T) {
	t.Parallel()
	a := app.Start(t, "PUBLISH_TOKEN="+app.Token, "TICK_INTERVAL=0")
	network := relay.New(t, "127.0.0.1:"+a.Port)
	b := browser.Chromium(t)
	page := b.Open(strings.Replace(network.URL(), "127.0.0.1", "localhost", 1))
	page.Until(state("live"))
	b.Offline.Store(true)
	network.Cut() // before any message
	a.Publish(`{"message":"one"}`)
	a.Publish(`{"message":"two"}`)
	page.Until(shows(2))
	network.Cut()
	a.Publish(`{"message":"three"}`)
	page.Until(shows(3))
	a.Stop(syscall.SIGTERM)
	page.Until(state("lost"))
	again := app.Start(t, "PUBLISH_TOKEN="+app.Token, "TICK_INTERVAL=0", "PORT="+a.Port)
	again.Publish(`{"message":"four"}`)
	page.Until(shows(5))
	if got, want := browser.Evaluate[[]string](page, messageTexts), []string{"one", "two", "three", "Some messages were missed", "four"}; !slices.Equal(got, want) {
		t.Errorf("the page shows %q, want %q", got, want)
	}
}

func TestPageShowsWhatItShowedAfterAReloadAndAVisitElsewhere(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		b.Offline.Store(true) // a stream may be cut off while its page goes
		other := b.Open(s.url)
		address := s.url + "/?topic=a&lastEventId=earliest"
		page := b.Open(address)
		page.Until(state("live"))
		s.send(`{"message":"one"}`, `{"message":"two"}`)
		page.Until(shows(2))

		at := "document.querySelector('.messages time').dateTime"
		published := browser.Evaluate[string](page, at)
		page.Run("location.reload()")
		s.until(t, func() bool { return s.opened >= 3 })
		page.Until(shows(2))
		page.Until(headline + " === 'two'")
		if got := browser.Evaluate[string](page, at); got != published {
			t.Errorf("the first message was published at %s before the reload, and %s after it", published, got)
		}
		page.Navigate(s.url + "/elsewhere")
		page.Until("document.title === 'elsewhere'")
		s.send(`{"message":"three"}`)
		page.Run("history.back()")
		page.Until(shows(3))
		page.Navigate(s.url + "/elsewhere")
		page.Until("document.title === 'elsewhere'")
		s.send(`{"message":"four"}`)
		page.Navigate(address)
		page.Until(shows(4))
		for _, tab := range []*browser.Tab{page, other} { // the other tab is on another topic, and has seen all of this stage's
			tab.Until(shows(4))
			if got, want := browser.Evaluate[[]string](tab, messageTexts), []string{"one", "two", "three", "four"}; !slices.Equal(got, want) {
				t.Errorf("the page shows %q, want %q", got, want)
			}
		}
		fresh := b.Open(s.url + "/?topic=a")
		fresh.Until(shows(4))
	})
}

func TestNothingMovesUnderAReader(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		page := b.Open(s.url)
		page.Resize(375, 667) // Firefox and WebKit stop at about 500
		page.Until(state("live"))
		s.beat(`{"message":"tick 0"}`)
		page.Until(headline + " === 'tick 0'")
		page.Run(`
			window.shift = 0;
			try { new PerformanceObserver((list) => list.getEntries().forEach(({ value }) => window.shift += value)).observe({ type: 'layout-shift' }) } catch {}
		`)
		// Messages and ticks, until the page has as many lines as it keeps, and then on for a reader who looks at an early one.
		place := func(selector string) float64 {
			return browser.Evaluate[float64](page, fmt.Sprintf("document.querySelector(%q).getBoundingClientRect().top", selector))
		}
		fixed := []string{"header", ".headline", ".ticks", ".messages"}
		before := map[string]float64{}
		for _, selector := range fixed {
			before[selector] = place(selector)
		}
		var reading float64
		for i := range 70 {
			s.beat(fmt.Sprintf(`{"message":"tick %d"}`, i+1))
			if i%2 == 0 || i > 30 {
				s.send(fmt.Sprintf(`{"message":"message %d %s"}`, i, strings.Repeat("and more ", i%20)))
			}
			if i == 20 {
				s.send(slices.Repeat([]string{`{"message":"one of many"}`}, 470)...)
			}
			page.Until(fmt.Sprintf("document.querySelector('.ticks li').textContent === 'tick %d'", i+1))
			switch {
			case i == 30:
				page.Until("document.querySelectorAll('.messages li').length > 60")
				page.Run("const reading = document.querySelectorAll('.messages li')[60]; reading.id = 'reading'; reading.scrollIntoView()")
				reading = place("#reading")
			case i > 30:
				if at := place("#reading"); math.Abs(at-reading) >= 1 {
					t.Fatalf("after message %d the line that is read is at %v, before at %v", i, at, reading)
				}
			}
		}
		page.Until("/ earlier lines are not shown/.test(document.querySelector('.omitted').textContent)")
		for _, selector := range fixed {
			if at := place(selector); at != before[selector] {
				t.Errorf("%s is at %v, before at %v", selector, at, before[selector])
			}
		}
		if shift := browser.Evaluate[float64](page, "window.shift"); shift >= 0.1 {
			t.Errorf("the layout shifted by %v", shift)
		}
	})
}

func TestMessagesAreShownAsTextWhateverTheyAre(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		page := b.Open(s.url)
		page.Until(state("live"))
		var want []string
		for _, test := range []struct{ data, line, latest string }{
			{`{"message":"<img src=x onerror=alert(1)><b>bold</b>"}`, "<img src=x onerror=alert(1)><b>bold</b>", "<img src=x onerror=alert(1)><b>bold</b>"},
			{`{"message":"two\nlines"}`, "two\nlines", "two\nlines"},
			{`"text"`, "text", "text"},
			{`null`, "null", "null"},
			{`7`, "7", "7"},
			{`[]`, "[]", "[]"},
			{`""`, `""`, `""`},
			{`{"message":1}`, "{\n  \"message\": 1\n}", `{"message":1}`},
			{`{"message":""}`, "{\n  \"message\": \"\"\n}", `{"message":""}`},
			{`{"a":{"b":[21.5]}}`, "{\n  \"a\": {\n    \"b\": [\n      21.5\n    ]\n  }\n}", `{"a":{"b":[21.5]}}`},
			{`"` + strings.Repeat("unbroken", 20) + `"`, strings.Repeat("unbroken", 20), strings.Repeat("unbroken", 20)},
		} {
			s.send(test.data)
			want = append(want, test.line)
			page.Until(shows(len(want)))
			if got := browser.Evaluate[string](page, headline); got != test.latest {
				t.Errorf("the latest message is %q, want %q", got, test.latest)
			}
		}
		s.sendAs("event:shipped\n", `{"message":"by its name"}`)
		want = append(want, "by its name")
		page.Until(shows(len(want)))
		page.Until("/ · shipped$/.test(document.querySelector('.published').textContent) && document.querySelector('.messages li:last-child .label').textContent === 'shipped'")
		if got := browser.Evaluate[[]string](page, messageTexts); !slices.Equal(got, want) {
			t.Errorf("the page shows %q, want %q", got, want)
		}
		if browser.Evaluate[bool](page, "document.querySelector('#sse-data img, #sse-data b') !== null") {
			t.Error("a message has become markup")
		}
		if wide := browser.Evaluate[int](page, "document.documentElement.scrollWidth - innerWidth"); wide > 0 {
			t.Errorf("the page is %d pixels wider than its window", wide)
		}

		s.send(`{"message":"` + strings.Repeat("long ", 400) + `"}`)
		page.Until(shows(len(want) + 1))
		const last = "document.querySelector('.messages li:last-child p')"
		page.Until(last + ".matches('.clamped') && " + last + ".textContent.length === 1000")
		page.Run("document.querySelector('.messages li:last-child button').click()")
		page.Until("!" + last + ".matches('.clamped') && " + last + ".textContent.length === 2000")
	})
}

func TestPausedPageWaitsAndThenShowsWhatCame(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		page := b.Open(s.url)
		page.Until(state("live"))
		page.Run("document.querySelector('.bar button').click()")
		s.send(`{"message":"one"}`, `{"message":"two"}`)
		page.Until("document.querySelector('.bar button').textContent === 'Resume (2)'")
		if got := browser.Evaluate[[]string](page, messageTexts); len(got) > 0 {
			t.Errorf("a paused page shows %q", got)
		}
		page.Run("document.querySelector('.bar button').click()")
		page.Until(headline + " === 'two' && " + shows(2))
		page.Until("document.querySelector('.announcement').textContent === '2 messages. The latest: two'")

		page.Run("document.querySelector('.bar button').click()")
		var many []string
		for n := range 700 { // more than the page keeps
			many = append(many, fmt.Sprint(n))
		}
		s.send(many...)
		page.Until("document.querySelector('.bar button').textContent === 'Resume (700)'")
		page.Run("document.querySelector('.bar button').click()")
		page.Until(headline + " === '699'")
		page.Until("document.querySelector('.omitted').textContent === '202 earlier lines are not shown. The page has the newest 500.'")
		if got := browser.Evaluate[[]string](page, messageTexts); !slices.Equal(got, many[200:]) {
			t.Errorf("the page shows %d lines from %s to %s, want the newest 500", len(got), got[0], got[len(got)-1])
		}
	})
}

func TestReaderOfEarlierMessagesHasAWayToTheEnd(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		page := b.Open(s.url)
		page.Until(state("live"))
		var many []string
		for n := range 100 {
			many = append(many, fmt.Sprint(n))
		}
		s.send(many...)
		page.Until(shows(100))
		const log, toEnd, atEnd = "document.querySelector('.messages')", "document.querySelector('.end button')", "(({ scrollHeight, scrollTop, clientHeight }) => scrollHeight - scrollTop - clientHeight < 8)(document.querySelector('.messages'))"
		page.Until(toEnd + ".hidden && " + atEnd)
		page.Run(log + ".scrollTop = 0")
		s.send("100") // a window that is not shown does not say that it was scrolled
		page.Until(shows(101) + " && !" + toEnd + ".hidden")
		page.Run(toEnd + ".focus(); " + toEnd + ".click()")
		page.Until(toEnd + ".hidden && " + atEnd + " && document.activeElement === " + log)
		s.send("101")
		page.Until(shows(102) + " && " + atEnd)
	})
}

func TestTryNowConnectsAndKeepsTheFocus(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		b.Offline.Store(true)
		page := b.Open(s.url)
		page.Until(state("live"))
		s.change(func() { s.epoch, s.status = s.epoch+1, http.StatusServiceUnavailable })
		page.Until(state("lost"))
		const retry = "document.querySelector('#connection button')"
		page.Run(retry + ".focus()")
		refused := s.get(&s.refused)
		page.Run(retry + ".click()")
		s.until(t, func() bool { return s.refused > refused })
		page.Until("document.activeElement === " + retry)
		s.change(func() { s.status = 0 })
		page.Run(retry + ".click()")
		page.Until(state("live") + " && document.activeElement.textContent === 'Live'")
	})
}

func TestPageNamesItsTopicsAndHasNoPlaceForTicksBesideThem(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		page := b.Open(s.url + "/?topic=orders/7&topic=news/*")
		page.Until(state("live"))
		page.Until("document.querySelector('h1').textContent === 'orders/7, news/*' && document.title === 'orders/7, news/* · Server-Sent Events Example'")
		s.sendAs("topic:news/today\nevent:flash\n", `{"message":"one"}`, `{"message":"two"}`)
		page.Until(shows(2) + " && document.querySelector('.messages .label').textContent === 'news/today · flash'")
		const hole = "document.querySelector('.messages').getBoundingClientRect().top - (() => { const range = document.createRange(); range.selectNodeContents(document.querySelector('.headline')); return range.getBoundingClientRect().bottom })()"
		if pixels := browser.Evaluate[float64](page, hole); pixels > 70 || pixels < 0 {
			t.Errorf("there are %v pixels between the latest message and the list", pixels)
		}
		if !browser.Evaluate[bool](page, "document.querySelector('.ticks').hidden") {
			t.Error("there is a place for ticks")
		}
		s.beat(`{"message":"tick"}`)
		page.Until("!document.querySelector('.ticks').hidden")
	})
}

func TestPageShowsTheServersReason(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		a := app.Start(t, "TICK_INTERVAL=0")
		b.Offline.Store(true)
		page := b.Open(a.URL + "/?topic=a%20b")
		page.Until(state("refused"))
		page.Until(`document.querySelector('h1').textContent === 'a b' && document.getElementById('connection').textContent.startsWith('"a b" is no topic')`)
		if text := browser.Evaluate[string](page, "getComputedStyle(document.querySelector('.headline'), '::before').content + document.body.innerText"); strings.Contains(text, "Nothing") || strings.Contains(text, "ended") {
			t.Errorf("the page says %q", text)
		}
	})
}

func TestPageIsLoadingUntilItHasWhatIsKept(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		s.change(func() { s.loading = true })
		s.sendAs("time:1000000000000\n", `{"message":"one"}`)
		page := b.Open(s.url)
		page.Until(state("loading"))
		page.Until(shows(1) + " && document.querySelector('.messages time').dateTime === '2001-09-09T01:46:40.000Z'")
		s.change(func() { s.loading = false })
		page.Until(state("live"))
	})
}

func TestPageThatOpensLaterShowsWhatIsKept(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		a := app.Start(t, "PUBLISH_TOKEN="+app.Token, "HISTORY=2", "TICK_INTERVAL=0")
		for _, text := range []string{"one", "two", "three"} {
			a.PublishTo("orders/7", fmt.Sprintf(`{"message":%q}`, text))
		}
		page := b.Open(a.URL + "/?topic=orders/7")
		page.Until(state("live"))
		page.Until(shows(3))
		if got, want := browser.Evaluate[[]string](page, messageTexts), []string{"Earlier messages are no longer kept", "two", "three"}; !slices.Equal(got, want) {
			t.Errorf("the page shows %q, want %q", got, want)
		}
	})
}

// below returns the address of a proxy that has the server below a path.
func below(t *testing.T, server string) string {
	t.Helper()
	to, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/push/", http.StripPrefix("/push", &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(to) },
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0), // clients leave
	}))
	proxy := httptest.NewServer(mux)
	t.Cleanup(func() { proxy.CloseClientConnections(); proxy.Close() })
	return strings.Replace(proxy.URL, "127.0.0.1", "localhost", 1) + "/push/"
}

func TestPagesWorkBelowAPathOfAProxy(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		a := app.Start(t, "PUBLISH_TOKEN="+app.Token)
		b.Offline.Store(true) // the answer 404 is written to the console
		home := below(t, a.URL)
		a.PublishTo("orders/7", `{"message":"one"}`)
		page := b.Open(home + "?topic=orders/7")
		page.Until(state("live") + " && " + shows(1))
		page.Run("document.querySelector('nav a').click()")
		page.Until("location.pathname === '/push/status' && getComputedStyle(document.querySelector('.figures')).display === 'grid'")
		if b.Name == "Chromium" { // the others do not show the window, which then has no stream
			page.Until(state("live"))
		}
		page.Navigate(home + "a/b/nope")
		page.Until("document.querySelector('h1')?.textContent === 'Not Found' && getComputedStyle(document.querySelector('.error')).paddingTop !== '0px'")
		page.Run("document.querySelector('a').click()")
		page.Until("location.pathname === '/push/' && " + state("live"))
	})
}

// What the page needs is asked for by index.html itself, so that there are four round trips before the first tick: the
// page, six of its files, the others, the stream. A browser has six connections to a server.
func TestFirstLoadIsSmallAndHasNoWaterfall(t *testing.T) {
	t.Parallel()
	const limit = 20_000 // bytes of what is sent, without headers
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		a := app.Start(t)
		page := b.Open(a.URL + "/")
		page.Until(state("live") + " && document.querySelector('.headline').textContent !== ''")
		loaded := browser.Evaluate[map[string]int](page, `Object.fromEntries(performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))
			.filter(({ name }) => !/\/(sse|favicon.svg)/.test(name)).map(({ name, encodedBodySize }) => [new URL(name).pathname, encodedBodySize]))`)
		want := []string{"/", "/app.js", "/connection.js", "/lib/connection.js", "/lib/parser.js", "/lib/reader.js", "/lib/shared-event-source.js", "/lib/tabs.js", "/lines.js", "/style.css"}
		if got := slices.Sorted(maps.Keys(loaded)); !slices.Equal(got, want) {
			t.Errorf("the page loads %q, want %q", got, want)
		}
		total := 0
		for _, size := range loaded {
			total += size
		}
		if t.Logf("%s: %d bytes in %d requests", b.Name, total, len(loaded)); total > limit {
			t.Errorf("the page takes %d bytes, want at most %d: %v", total, limit, loaded)
		}
		for _, path := range want[1:] {
			if !browser.Evaluate[bool](page, fmt.Sprintf("document.querySelector(`[src='%[1]s'], link:is([rel=modulepreload], [rel=stylesheet])[href='%[1]s']`) !== null", path[1:])) {
				t.Errorf("index.html does not name %s, so it is asked for only when another file has come", path)
			}
		}
	})
}

func TestPageWorksWithTheBrowsersOwnEventSourceWithoutItsFirstLine(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		s.change(func() { s.native = true })
		b.Offline.Store(true)
		s.beat(`{"message":"tick"}`)
		page := b.Open(s.url)
		page.Until(state("live"))
		page.Until(headline + " === 'tick'")
		s.send(`{"message":"one"}`)
		page.Until(shows(1))
		s.change(func() { s.epoch++ })
		s.send(`{"message":"two"}`)
		page.Until(shows(2))
		s.beat(`{"message":"tock"}`)
		page.Until("document.querySelector('.ticks li').textContent === 'tock'")
		if got, want := browser.Evaluate[[]string](page, messageTexts), []string{"one", "two"}; !slices.Equal(got, want) {
			t.Errorf("the page shows %q, want %q", got, want)
		}
	})
}

func TestPageThatIsAtTheEndOfItsTopicIsNeverCalledLost(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		b.Offline.Store(true)
		for _, native := range []bool{false, true} {
			s := newStage(t)
			s.change(func() { s.native = native })
			page := b.Open(s.url)
			page.Until(state("live"))
			page.Run("window.states = []; new MutationObserver(() => states.push(document.querySelector('#connection [role=status]').textContent)).observe(document.getElementById('connection'), { subtree: true, childList: true, attributes: true })")
			s.change(func() { s.epoch, s.status = s.epoch+1, http.StatusNoContent }) // as after end=true
			page.Until(state("ended"))
			if got, want := browser.Evaluate[[]string](page, "[...new Set(states)]"), []string{"Reconnecting", "The stream has ended"}; !slices.Equal(got, want) {
				t.Errorf("the page says %q, want %q (its own EventSource: %v)", got, want, native)
			}
		}
	})
}

func TestTheBrowsersOwnEventSourceResumes(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		a := app.Start(t, "PUBLISH_TOKEN="+app.Token, "TICK_INTERVAL=0")
		network := relay.New(t, "127.0.0.1:"+a.Port)
		b.Offline.Store(true)
		page := b.Open(network.URL() + "/nope")
		page.Until("location.pathname === '/nope' && document.readyState === 'complete'")
		page.Run("window.got = []; window.es = new EventSource('/sse'); es.onmessage = ({ data }) => window.got.push(JSON.parse(data).message)")
		page.Until("es.readyState === 1")
		network.Cut() // before any message
		a.Publish(`{"message":"one"}`)
		page.Until("got.length === 1")
		network.Cut()
		a.Publish(`{"message":"two"}`)
		page.Until("got.length === 2")
		if got, want := browser.Evaluate[[]string](page, "got"), []string{"one", "two"}; !slices.Equal(got, want) {
			t.Errorf("it got %q, want %q", got, want)
		}
	})
}

func TestAnotherSiteImportsTheModuleAndSendsItsCookies(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		here, there := newStage(t), newStage(t)
		there.change(func() { there.allowed = here.url })
		page := b.Open(there.url + "/elsewhere")
		page.Until("document.title === 'elsewhere'")
		page.Run("document.cookie = 'stage=secret'")
		page.Navigate(here.url + "/elsewhere?here")
		page.Until("location.search === '?here' && document.readyState === 'complete'")
		page.Run(fmt.Sprintf(`window.got = []; import('%[1]s/lib/shared-event-source.js').then(({ SharedEventSource }) => {
			window.source = new SharedEventSource('%[1]s/sse', { withCredentials: true });
			source.onmessage = ({ data, origin }) => window.got.push(data, origin);
		})`, there.url))
		page.Until("window.source?.readyState === 1")
		there.send("1")
		there.cut()
		there.send("2")
		page.Until("got.length === 4")
		if got, want := browser.Evaluate[[]string](page, "got"), []string{"1", there.url, "2", there.url}; !slices.Equal(got, want) {
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
	page := browser.Chromium(t).Open("about:blank")
	page.Do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}), chromedp.Navigate(s.url))
	text := browser.Evaluate[string](page, "document.body.innerText")
	if !strings.Contains(text, "JavaScript") || strings.Contains(text, "Nothing") {
		t.Errorf("the page shows %q", text)
	}
}

func TestPageSaysWhenItMayNotReadATopic(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	b := browser.Chromium(t)
	b.Offline.Store(true)
	s.change(func() { s.status = http.StatusForbidden })
	b.Open(s.url).Until(state("refused"))
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
