package pages

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"gin-sse/internal/testsse"
	jwt "gin-sse/internal/token"
	"gin-sse/test/internal/app"
	"gin-sse/test/internal/browser"
)

// source makes a page open a SharedEventSource of another site, which collects data and errors in got.
func source(p *browser.Tab, url, options string) {
	p.T.Helper()
	p.Run(fmt.Sprintf(`window.got = []; import('%s/lib/shared-event-source.js').then(({ SharedEventSource }) => {
		window.source = new SharedEventSource('%s', %s);
		source.onmessage = ({ data }) => got.push(data);
		source.onerror = ({ status }) => got.push('error ' + status);
	})`, url[:strings.LastIndex(url, "/sse")], url, options))
}

func gets(p *browser.Tab, want ...string) {
	p.T.Helper()
	p.Until(fmt.Sprintf("got.length >= %d", len(want)))
	if got := browser.Evaluate[[]string](p, "got"); !slices.Equal(got, want) {
		p.T.Errorf("a tab got %q, want %q", got, want)
	}
}

func TestAnotherSiteReadsAPrivateTopicIfItAsksToSendItsCookie(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		// All tests of a browser share the cookies of localhost; those of 127.0.0.1 are this test's.
		site := strings.Replace(newStage(t).url, "localhost", "127.0.0.1", 1)
		a := app.Start(t, "SUBSCRIBE_KEY="+app.SubscribeKey, "PUBLISH_TOKEN="+app.Token, "ALLOWED_ORIGINS="+site)
		server := strings.Replace(a.URL, "localhost", "127.0.0.1", 1)
		b.Offline.Store(true) // a 401 is written to the console
		with, without := b.Open(site+"/elsewhere"), b.Open(site+"/elsewhere")
		for _, page := range []*browser.Tab{with, without} {
			page.Until("document.title === 'elsewhere'")
		}
		with.Run(fmt.Sprintf("document.cookie = 'access_token=%s'", app.TokenFor(t, "private/alice")))
		defer with.Run("document.cookie = 'access_token=; max-age=0'")
		source(with, server+"/sse?topic=private/alice", "{ withCredentials: true }")
		with.Until("window.source?.readyState === 1")
		source(without, server+"/sse?topic=private/alice", "{}")
		without.Until("window.source?.readyState === 2")
		gets(without, "error 401")
		a.PublishTo("private/alice", "1")
		gets(with, "1")
	})
}

func TestTabsWithOtherHeadersDoNotShareAConnection(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		here := newStage(t)
		a := app.Start(t, "SUBSCRIBE_KEY="+app.SubscribeKey, "PUBLISH_TOKEN="+app.Token, "ALLOWED_ORIGINS="+here.url, "METRICS=true")
		b.Offline.Store(true) // a 401 is written to the console
		issue := func(subject string, lifetime time.Duration) string {
			text, err := jwt.Issue([]byte(app.SubscribeKey), []string{"private/*"}, subject, lifetime)
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("{ headers: { Authorization: 'Bearer %s' } }", text)
		}
		alice, bob := issue("alice", time.Hour), issue("bob", time.Hour)
		var tabs []*browser.Tab
		for _, options := range []string{alice, bob, alice} {
			page := b.Open(here.url + "/elsewhere")
			page.Until("document.title === 'elsewhere'")
			source(page, a.URL+"/sse?topic=private/a", options)
			page.Until("window.source?.readyState === 1")
			tabs = append(tabs, page)
		}
		testsse.ReadUntil(t, a.Get("/metrics").Body, "\ngin_sse_subscribers 2\n")
		a.PublishTo("private/a", "1")
		for _, page := range tabs {
			gets(page, "1")
		}

		wrong := b.Open(here.url + "/elsewhere")
		wrong.Until("document.title === 'elsewhere'")
		source(wrong, a.URL+"/sse?topic=private/a", "{ headers: { Authorization: 'Bearer wrong' } }")
		wrong.Until("window.source?.readyState === 2")
		gets(wrong, "error 401")
		a.PublishTo("private/a", "2")
		for _, page := range tabs {
			gets(page, "1", "2")
		}
	})
}

func TestAnExpiredTokenIsRenewedOnceForAllTabsAndTheStreamResumes(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		s := newStage(t)
		b.Offline.Store(true) // a 401 is written to the console
		var tabs []*browser.Tab
		for range 2 {
			p := b.Open(s.url + "/elsewhere")
			p.Until("document.title === 'elsewhere'")
			p.Run("window.asked = 0; window.answers = []")
			source(p, s.url+"/sse", "{ renew: () => { window.asked++; return new Promise((yes, no) => window.answers.push({ yes, no })); } }")
			p.Until("window.source?.readyState === 1")
			tabs = append(tabs, p)
		}
		s.send("1")
		for _, p := range tabs {
			gets(p, "1")
		}

		s.change(func() { s.status, s.epoch = http.StatusUnauthorized, s.epoch+1 })
		s.send("2")
		leading := tabs[0]
		leading.Until("asked === 1")
		leading.Run("answers.pop().no(new Error('the application is away'))")
		leading.Until("asked === 2") // by itself, later
		s.change(func() { s.status = 0 })
		leading.Run("answers.pop().yes(true)")
		s.send("3")
		for _, p := range tabs {
			p.Until("source.readyState === 1")
			p.Until("got.at(-1) === '3'")
			got := slices.DeleteFunc(browser.Evaluate[[]string](p, "got"), func(s string) bool { return s == "error undefined" })
			if want := []string{"1", "2", "3"}; !slices.Equal(got, want) {
				t.Errorf("a tab got %q, want %q", got, want)
			}
		}
		if asked := browser.Evaluate[int](tabs[1], "asked"); asked != 0 {
			t.Errorf("a tab that does not have the connection renewed the token %d times", asked)
		}
	})
}

func TestARenewalThatDoesNotHelpIsRepeatedUntilRenewSaysFalse(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		b.Offline.Store(true) // a 401 is written to the console
		s := newStage(t)
		s.status = http.StatusUnauthorized
		p := b.Open(s.url + "/elsewhere")
		p.Until("document.title === 'elsewhere'")
		p.Run("window.asked = 0; window.answer = true")
		source(p, s.url+"/sse", "{ renew: async () => { window.asked++; return window.answer; } }")
		p.Until("window.got?.length > 0")
		if asked, refused := browser.Evaluate[int](p, "asked"), s.get(&s.refused); asked != 1 || refused != 2 {
			t.Errorf("renew was called %d times and the stream asked for %d times before it paused, want 1 and 2", asked, refused)
		}
		p.Run("window.answer = false")
		p.Until("window.source.readyState === 2")
		if asked := browser.Evaluate[int](p, "asked"); asked != 2 {
			t.Errorf("renew was called %d times, want 2", asked)
		}
		gets(p, "error 401", "error 401")
	})
}
