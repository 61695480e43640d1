package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	jwt "gin-sse/internal/token"
)

// subscribeKey signs the tokens of private topics.
const subscribeKey = "0123456789abcdef0123456789abcdef"

// tokenFor is what "gin-sse token" prints.
func tokenFor(t *testing.T, topics ...string) string {
	t.Helper()
	cmd := command(t, "SUBSCRIBE_KEY="+subscribeKey)
	cmd.Args = append(append(cmd.Args, "token"), topics...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// publishTo sends JSON to a topic.
func (a *app) publishTo(topic, body string) {
	a.t.Helper()
	request, err := http.NewRequestWithContext(a.t.Context(), http.MethodPost, a.url+"/sse?topic="+topic, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := client(a.t).Do(request)
	if err != nil {
		a.t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		a.t.Fatalf("publishing to %s: %s", topic, response.Status)
	}
}

func TestTheTokenThatTheCommandPrintsOpensItsTopicAlone(t *testing.T) {
	t.Parallel()
	a := start(t, "SUBSCRIBE_KEY="+subscribeKey, "PUBLISH_TOKEN="+token)
	printed := tokenFor(t, "private/orders/alice", "--for", "1h", "private/builds/*")
	for topic, want := range map[string]int{"private/orders/alice": 200, "private/builds/7": 200, "private/orders/bob": 403} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.url+"/sse?topic="+topic, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+printed)
		response, err := client(t).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s is answered with %s, want %d", topic, response.Status, want)
		}
		if want == http.StatusOK {
			a.publishTo(topic, `"hello"`)
			readUntil(t, response.Body, `data:"hello"`)
		}
	}
	if strings.Contains(a.out.String(), printed[20:]) {
		t.Errorf("the token is in the log: %s", a.out.String())
	}
}

// source makes a page open a SharedEventSource of another site, which collects data and errors in got.
func (p *tab) source(url, options string) {
	p.t.Helper()
	p.run(fmt.Sprintf(`window.got = []; import('%s/lib/shared-event-source.js').then(({ SharedEventSource }) => {
		window.source = new SharedEventSource('%s', %s);
		source.onmessage = ({ data }) => got.push(data);
		source.onerror = ({ status }) => got.push('error ' + status);
	})`, url[:strings.LastIndex(url, "/sse")], url, options))
}

func (p *tab) gets(want ...string) {
	p.t.Helper()
	p.until(fmt.Sprintf("got.length >= %d", len(want)))
	if got := evaluate[[]string](p, "got"); !slices.Equal(got, want) {
		p.t.Errorf("a tab got %q, want %q", got, want)
	}
}

func TestAnotherSiteReadsAPrivateTopicIfItAsksToSendItsCookie(t *testing.T) {
	t.Parallel()
	inEachBrowser(t, func(t *testing.T, b *browser) {
		// All tests of a browser share the cookies of localhost; those of 127.0.0.1 are this test's.
		site := strings.Replace(newStage(t).url, "localhost", "127.0.0.1", 1)
		a := start(t, "SUBSCRIBE_KEY="+subscribeKey, "PUBLISH_TOKEN="+token, "ALLOWED_ORIGINS="+site)
		server := strings.Replace(a.url, "localhost", "127.0.0.1", 1)
		b.offline.Store(true) // a 401 is written to the console
		with, without := b.open(site+"/elsewhere"), b.open(site+"/elsewhere")
		for _, page := range []*tab{with, without} {
			page.until("document.title === 'elsewhere'")
		}
		with.run(fmt.Sprintf("document.cookie = 'access_token=%s'", tokenFor(t, "private/alice")))
		defer with.run("document.cookie = 'access_token=; max-age=0'")
		with.source(server+"/sse?topic=private/alice", "{ withCredentials: true }")
		with.until("window.source?.readyState === 1")
		without.source(server+"/sse?topic=private/alice", "{}")
		without.until("window.source?.readyState === 2")
		without.gets("error 401")
		a.publishTo("private/alice", "1")
		with.gets("1")
	})
}

func TestTabsWithOtherHeadersDoNotShareAConnection(t *testing.T) {
	t.Parallel()
	inEachBrowser(t, func(t *testing.T, b *browser) {
		here := newStage(t)
		a := start(t, "SUBSCRIBE_KEY="+subscribeKey, "PUBLISH_TOKEN="+token, "ALLOWED_ORIGINS="+here.url, "METRICS=true")
		b.offline.Store(true) // a 401 is written to the console
		issue := func(subject string, lifetime time.Duration) string {
			text, err := jwt.Issue([]byte(subscribeKey), []string{"private/*"}, subject, lifetime)
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("{ headers: { Authorization: 'Bearer %s' } }", text)
		}
		alice, bob := issue("alice", time.Hour), issue("bob", time.Hour)
		var tabs []*tab
		for _, options := range []string{alice, bob, alice} {
			page := b.open(here.url + "/elsewhere")
			page.until("document.title === 'elsewhere'")
			page.source(a.url+"/sse?topic=private/a", options)
			page.until("window.source?.readyState === 1")
			tabs = append(tabs, page)
		}
		readUntil(t, a.get("/metrics").Body, "\ngin_sse_subscribers 2\n")
		a.publishTo("private/a", "1")
		for _, page := range tabs {
			page.gets("1")
		}

		wrong := b.open(here.url + "/elsewhere")
		wrong.until("document.title === 'elsewhere'")
		wrong.source(a.url+"/sse?topic=private/a", "{ headers: { Authorization: 'Bearer wrong' } }")
		wrong.until("window.source?.readyState === 2")
		wrong.gets("error 401")
		a.publishTo("private/a", "2")
		for _, page := range tabs {
			page.gets("1", "2")
		}
	})
}

func TestAnExpiredTokenIsRenewedOnceForAllTabsAndTheStreamResumes(t *testing.T) {
	t.Parallel()
	inEachBrowser(t, func(t *testing.T, b *browser) {
		s := newStage(t)
		b.offline.Store(true) // a 401 is written to the console
		var tabs []*tab
		for range 2 {
			p := b.open(s.url + "/elsewhere")
			p.until("document.title === 'elsewhere'")
			p.run("window.asked = 0; window.answers = []")
			p.source(s.url+"/sse", "{ renew: () => { window.asked++; return new Promise((yes, no) => window.answers.push({ yes, no })); } }")
			p.until("window.source?.readyState === 1")
			tabs = append(tabs, p)
		}
		s.send("1")
		for _, p := range tabs {
			p.gets("1")
		}

		s.change(func() { s.status, s.epoch = http.StatusUnauthorized, s.epoch+1 })
		s.send("2")
		leading := tabs[0]
		leading.until("asked === 1")
		leading.run("answers.pop().no(new Error('the application is away'))")
		leading.until("asked === 2") // by itself, later
		s.change(func() { s.status = 0 })
		leading.run("answers.pop().yes(true)")
		s.send("3")
		for _, p := range tabs {
			p.until("source.readyState === 1")
			p.until("got.at(-1) === '3'")
			got := slices.DeleteFunc(evaluate[[]string](p, "got"), func(s string) bool { return s == "error undefined" })
			if want := []string{"1", "2", "3"}; !slices.Equal(got, want) {
				t.Errorf("a tab got %q, want %q", got, want)
			}
		}
		if asked := evaluate[int](tabs[1], "asked"); asked != 0 {
			t.Errorf("a tab that does not have the connection renewed the token %d times", asked)
		}
	})
}

func TestARenewalThatDoesNotHelpClosesTheStream(t *testing.T) {
	t.Parallel()
	inEachBrowser(t, func(t *testing.T, b *browser) {
		b.offline.Store(true) // a 401 is written to the console
		for answer, requests := range map[string]int{"true": 2, "false": 1} {
			s := newStage(t)
			s.status = http.StatusUnauthorized
			p := b.open(s.url + "/elsewhere")
			p.until("document.title === 'elsewhere'")
			p.run("window.asked = 0")
			p.source(s.url+"/sse", "{ renew: async () => { window.asked++; return "+answer+"; } }")
			p.until("window.source?.readyState === 2")
			p.gets("error 401")
			if asked, refused := evaluate[int](p, "asked"), s.get(&s.refused); asked != 1 || refused != requests {
				t.Errorf("renew gives %s: it was called %d times and the stream asked for %d times, want 1 and %d", answer, asked, refused, requests)
			}
		}
	})
}
