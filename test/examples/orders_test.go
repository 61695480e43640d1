package examples

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"gin-sse/internal/testlog"
	"gin-sse/internal/testport"
	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/app"
	"gin-sse/test/internal/browser"
	"gin-sse/test/internal/child"
	"gin-sse/test/internal/need"
)

// shop is the example "Orders" beside its push server.
type shop struct {
	t       *testing.T
	url     string
	push    *app.Server
	pushEnv []string
	out     *testlog.Log
}

func startShop(t *testing.T, env ...string) *shop {
	t.Helper()
	return startShopAt(t, "", env...)
}

// startShopAt is startShop for a shop that is shown at another address as well.
func startShopAt(t *testing.T, other string, env ...string) *shop {
	t.Helper()
	command := inREADME(t, "orders", "python3 docs/examples/orders/orders.py")
	need.Program(t, command)
	site := fmt.Sprint("http://localhost:", testport.Free(t))
	secrets, _ := settings(inREADME(t, "orders", "export PUBLISH_TOKEN=secret SUBSCRIBE_KEY=only-to-try-it-0123456789-abcdef"))
	pushEnv, _ := settings(strings.ReplaceAll(inREADME(t, "orders", "ALLOWED_ORIGINS=http://localhost:8000 go run main.go"), "http://localhost:8000", strings.Trim(site+","+other, ",")))
	pushEnv = append(pushEnv, secrets...)
	push := app.Start(t, append(pushEnv, "METRICS=true")...)
	env = append(append(env, "SITE="+site, "PUSH="+push.URL), secrets...)
	return &shop{t, site, push, pushEnv, startExample(t, command, "The shop is at "+site, env...)}
}

// post sends a form and returns the answer, without its body.
func (s *shop) post(path, origin, authorization string, form url.Values) *http.Response {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for name, value := range map[string]string{"Origin": origin, "Authorization": authorization} {
		if value != "" {
			request.Header.Set(name, value)
		}
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request) // follows no redirect
	if err != nil {
		s.t.Fatal(err)
	}
	response.Body.Close()
	return response
}

// change runs the command of the README.
func (s *shop) change(order, status string) {
	s.t.Helper()
	command := inREADME(s.t, "orders", "curl -H 'Authorization: Bearer secret' -d order=1001 -d status=shipped localhost:8000/change")
	need.Program(s.t, command)
	command = strings.NewReplacer("localhost:8000", s.url, "1001", order, "shipped", "'"+status+"'").Replace(command)
	if out, err := child.Command(s.t.Context(), "sh", "-c", command+" -sS --fail-with-body").CombinedOutput(); err != nil || len(out) > 0 {
		s.t.Fatalf("%s: %v: %s", command, err, out)
	}
}

// subscribers waits until the push server has so many. It notices a client that has left when it sends to it for the
// second time, or after 30 seconds.
func (s *shop) subscribers(n int) {
	s.t.Helper()
	want := fmt.Sprintf("\ngin_sse_subscribers %d\n", n)
	for deadline := time.Now().Add(testwait.Limit); !strings.Contains(testsse.ReadAll(s.t, s.push.Get("/metrics").Body), want); {
		if time.Now().After(deadline) {
			s.t.Fatalf("the push server does not get to %q", want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func signIn(p *browser.Tab, name, password string) {
	p.T.Helper()
	p.Until("document.querySelector('#sign-in')?.onsubmit != null")
	p.Run(fmt.Sprintf("const form = document.querySelector('#sign-in'); form.elements.name.value = '%s'; form.elements.password.value = '%s'; form.requestSubmit();", name, password))
}

const (
	live      = "document.querySelector('#connection')?.textContent === 'Live'"
	signedOut = "document.querySelector('#sign-in')?.onsubmit != null && document.querySelector('ul').children.length === 0"
	wrong     = "document.querySelector('#wrong').textContent === 'Wrong name or password' && document.activeElement.id === 'wrong'"
)

// order tells whether the page shows it so.
func order(text string) string {
	return fmt.Sprintf("[...document.querySelectorAll('li')].some((order) => order.textContent === '%s')", text)
}

func TestOrdersShowsEachCustomerTheirOwnAndForgetsThemWhenTheySignOut(t *testing.T) {
	t.Parallel()
	b := browser.Chromium(t)
	b.Offline.Store(true) // a wrong password is written to the console
	s := startShop(t)
	alices := b.Private()
	alice, second, bob := alices.Open(s.url), alices.Open(s.url), b.Private().Open(s.url)
	signIn(alice, "alice", "can we fix it")
	alice.Until(wrong + " && document.querySelector('[name=name]').value === 'alice'")
	alice.Until(signedOut)
	signIn(alice, "alice", "tea party")
	signIn(bob, "bob", "can we fix it")
	for _, page := range []*browser.Tab{alice, second, bob} { // the second tab by itself
		page.Until(live)
	}
	s.subscribers(2)

	s.change("1001", "shipped")
	alice.Until(order("Tea set (1001): shipped"))
	alice.Do(browser.Prefer("light"), chromedp.EmulateViewport(560, 270, chromedp.EmulateScale(2)))
	alice.Picture("orders")
	s.change("1001", "shipped <b>today</b>")
	s.change("1003", "packed")
	for _, page := range []*browser.Tab{alice, second} {
		page.Until(order("Tea set (1001): shipped <b>today</b>"))
		if rows := browser.Evaluate[string](page, "document.querySelector('ul').innerText"); strings.Contains(rows, "1003") {
			t.Errorf("Alice sees %q", rows)
		}
	}
	bob.Until(order("Spanner (1003): packed"))
	if rows := browser.Evaluate[string](bob, "document.querySelector('ul').innerText"); rows != "Spanner (1003): packed" {
		t.Errorf("Bob sees %q", rows)
	}
	if cookies := browser.Evaluate[string](alice, "document.cookie"); cookies != "" {
		t.Errorf("a script can read %q", cookies)
	}
	stream := fmt.Sprintf("fetch('%s/sse?topic=private/orders/%%s', { credentials: 'include' }).then((answer) => { answer.body.cancel(); return answer.status; })", s.push.URL)
	for name, want := range map[string]int{"alice": 200, "bob": 403} {
		if status := browser.Evaluate[int](alice, fmt.Sprintf(stream, name)); status != want {
			t.Errorf("the stream of %s is answered with %d to Alice, want %d", name, status, want)
		}
	}

	second.Run("document.querySelector('#sign-out button').click()")
	alice.Until(signedOut)
	second.Until(signedOut)
	s.change("1001", "at the door")
	s.change("1001", "delivered")
	s.subscribers(1)
	if status := browser.Evaluate[int](second, fmt.Sprintf(stream, "alice")); status != http.StatusUnauthorized {
		t.Errorf("after signing out, the stream is answered with %d", status)
	}
	alice.Navigate("about:blank")
	alice.Run("setTimeout(() => history.back())") // later, as the browser may leave the page before it answers
	alice.Until(signedOut)
	s.change("1003", "delivered")
	bob.Until(order("Spanner (1003): delivered"))
	alice.Until(signedOut)

	signIn(alice, "bob", "can we fix it") // in the browser that was Alice's
	second.Until(order("Spanner (1003): delivered"))
	if rows := browser.Evaluate[string](second, "document.querySelector('ul').innerText"); rows != "Spanner (1003): delivered" {
		t.Errorf("Bob sees %q", rows)
	}
}

// front stands before the shop, and can fail.
type front struct {
	url   string
	to    *url.URL
	fails atomic.Bool  // every address but the page's own is answered with 502
	asked atomic.Int64 // how often it was
	loads atomic.Int64 // of the page
}

func newFront(t *testing.T) *front {
	t.Helper()
	f := &front{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			f.loads.Add(1)
		}
		if f.fails.Load() && (r.URL.Path == "/orders" || r.URL.Path == "/renew") {
			f.asked.Add(1)
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(f.to)
			if p.In.Header.Get("Origin") == f.url {
				p.Out.Header.Set("Origin", strings.TrimSuffix(f.to.String(), "/"))
			}
		}}).ServeHTTP(w, r)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	f.url = strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	return f
}

// One test, because browsers share the cookies of all ports of localhost.
func TestOrdersAreEachShownOnceAndInOrderWhileTokensExpireAndComeBackWhenTheShopHasFailed(t *testing.T) {
	t.Parallel()
	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		b.Offline.Store(true) // what fails is written to the console
		f := newFront(t)
		s := startShopAt(t, f.url, "TOKEN_LIFETIME=3")
		var err error
		if f.to, err = url.Parse(s.url); err != nil {
			t.Fatal(err)
		}
		b = b.Private()
		alice := b.Open(f.url)
		signIn(alice, "alice", "tea party")
		alice.Until(live)
		alice.Run(`window.seen = [];
			new MutationObserver((changes) => changes.forEach(({ addedNodes }) => window.seen.push(addedNodes[0].textContent)))
				.observe(document.getElementById('1001'), { childList: true });`)
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		var want []string
		for deadline := time.Now().Add(2 * testwait.Limit); len(s.out.Lines(`"POST /renew HTTP/1.1" 204`)) < 3; {
			<-ticker.C
			if time.Now().After(deadline) {
				t.Fatal("the token is not renewed")
			}
			n := fmt.Sprint(len(want) + 1)
			if response := s.post("/change", "", "Bearer secret", url.Values{"order": {"1001"}, "status": {n}}); response.StatusCode != http.StatusNoContent {
				t.Fatalf("change %s is answered with %s", n, response.Status)
			}
			want = append(want, "Tea set (1001): "+n)
		}
		alice.Until(fmt.Sprintf("seen.length >= %d", len(want)))
		if got := browser.Evaluate[[]string](alice, "seen"); !slices.Equal(got, want) {
			t.Errorf("the page showed %q, want %d changes in order", got, len(want))
		}

		f.fails.Store(true)
		const failed = "document.querySelector('#connection').textContent === 'The shop does not answer (502)' && document.querySelector('#sign-out') !== null"
		alice.Until(failed) // when the token expires
		second := b.Open(f.url)
		second.Until(failed)
		loads, asked := f.loads.Load(), f.asked.Load()
		testwait.For(t, "more requests", func() bool { return f.asked.Load() > asked+5 })
		if again := f.loads.Load(); again != loads {
			t.Errorf("the pages were loaded %d times more while the shop failed", again-loads)
		}
		f.fails.Store(false)
		for _, page := range []*browser.Tab{alice, second} {
			page.Until(live)
		}
		s.change("1001", "packed")
		for _, page := range []*browser.Tab{alice, second} {
			page.Until(order("Tea set (1001): packed"))
		}
		alice.Run("document.querySelector('#sign-out button').click()")
		alice.Until(signedOut)
		s.subscribers(0)
	})
}

func TestOrdersGoesOnAfterTheRestartOfAPushServerThatForgotEverything(t *testing.T) {
	t.Parallel()
	b := browser.Chromium(t)
	b.Offline.Store(true)
	s := startShop(t)
	alice := b.Private().Open(s.url)
	signIn(alice, "alice", "tea party")
	alice.Until(live)
	s.change("1001", "packed")
	alice.Until(order("Tea set (1001): packed"))

	s.push.Stop(syscall.SIGTERM)
	if response := s.post("/change", "", "Bearer secret", url.Values{"order": {"1002"}, "status": {"lost"}}); response.StatusCode != http.StatusBadGateway {
		t.Errorf("without a push server, a change is answered with %s", response.Status)
	}
	app.Start(t, append(s.pushEnv, "PORT="+s.push.Port)...)
	other := b.Private().Open(s.url) // with the id of an event that the push server no longer knows
	signIn(other, "alice", "tea party")
	for _, page := range []*browser.Tab{alice, other} {
		page.Until(live)
		page.Until(order("Tea set (1001): packed"))
		page.Until(order("Pocket watch (1002): received"))
	}
	s.change("1002", "shipped")
	for _, page := range []*browser.Tab{alice, other} {
		page.Until(order("Pocket watch (1002): shipped"))
	}
}

func TestOrdersComesAliveOnceThePushServerIsThere(t *testing.T) {
	t.Parallel()
	b := browser.Chromium(t)
	b.Offline.Store(true)
	s := startShop(t)
	s.push.Stop(syscall.SIGKILL)
	alice := b.Private().Open(s.url)
	signIn(alice, "alice", "tea party")
	alice.Until(order("Tea set (1001): received"))
	alice.Until("document.querySelector('#connection').textContent.startsWith('Connection lost')")
	colour := "getComputedStyle(document.querySelector('#connection')).color"
	lost := browser.Evaluate[string](alice, colour)
	app.Start(t, append(s.pushEnv, "PORT="+s.push.Port)...)
	alice.Until(live)
	if browser.Evaluate[string](alice, colour) == lost {
		t.Errorf("a lost connection has the colour of a live one, %s", lost)
	}
	s.change("1001", "shipped")
	alice.Until(order("Tea set (1001): shipped"))
}

func TestOrdersWritesNoErrorOnTheFirstVisit(t *testing.T) {
	t.Parallel()
	s := startShop(t)
	page := browser.Chromium(t).Private().Open(s.url) // whose console must stay empty
	page.Until(signedOut)
}

func TestOrdersFitsEveryScreenAndSchemeAndPassesAxe(t *testing.T) {
	t.Parallel()
	axe := browser.Axe(t)
	b := browser.Chromium(t)
	b.Offline.Store(true) // a wrong password is written to the console
	s := startShop(t)
	alice := b.Private().Open(s.url)
	signIn(alice, "alice", "can we fix it")
	alice.Until(wrong)
	alice.Check("orders-wrong", axe)
	signIn(alice, "alice", "tea party")
	alice.Until(live)
	s.change("1001", "with_the_courier_"+strings.Repeat("x", 200))
	s.change("1002", "Ünïcödé 🙂 <b>markup</b>")
	alice.Until(order("Pocket watch (1002): Ünïcödé 🙂 <b>markup</b>"))
	alice.Check("orders-long", axe)
}

func TestOrdersRefusesWhoeverIsNotItsCustomerOrStaff(t *testing.T) {
	t.Parallel()
	s := startShop(t)
	alice := url.Values{"name": {"alice"}, "password": {"tea party"}}
	shipped := url.Values{"order": {"1001"}, "status": {"shipped"}}
	for name, test := range map[string]struct {
		path, origin, authorization string
		form                        url.Values
		status                      int
	}{
		"a customer":                {"/sign-in", s.url, "", alice, 204},
		"a wrong password":          {"/sign-in", s.url, "", url.Values{"name": {"alice"}, "password": {"can we fix it"}}, 403},
		"an unknown name":           {"/sign-in", s.url, "", url.Values{"name": {"eve"}, "password": {""}}, 403},
		"nothing":                   {"/sign-in", s.url, "", nil, 403},
		"a password of 1,000 bytes": {"/sign-in", s.url, "", url.Values{"name": {"alice"}, "password": {strings.Repeat("x", 1000)}}, 403},
		"another site":              {"/sign-in", "https://example.com", "", alice, 403},
		"no site":                   {"/sign-in", "", "", alice, 403},
		"another site's sign-out":   {"/sign-out", "https://example.com", "", nil, 403},
		"a renewal without session": {"/renew", s.url, "", url.Values{"name": {"alice"}}, 401},
		"staff":                     {"/change", "", "Bearer secret", shipped, 204},
		"staff with a wrong token":  {"/change", "", "Bearer wrong", shipped, 403},
		"an unknown order":          {"/change", "", "Bearer secret", url.Values{"order": {"7"}, "status": {"shipped"}}, 502},
	} {
		response := s.post(test.path, test.origin, test.authorization, test.form)
		if response.StatusCode != test.status {
			t.Errorf("%s: %s, want %d", name, response.Status, test.status)
		}
		cookies := response.Cookies()
		if want := 2; name == "a customer" && len(cookies) != want || name != "a customer" && len(cookies) != 0 {
			t.Errorf("%s: it sets the cookies %v", name, cookies)
		}
		for _, cookie := range cookies {
			if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode {
				t.Errorf("the cookie %s is open to scripts or other sites", cookie)
			}
		}
	}
}
