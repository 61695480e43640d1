package handlers_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"gin-sse/handlers"
	"gin-sse/internal/hub"
	"gin-sse/internal/secret"
	"gin-sse/internal/testcrowd"
	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
	"gin-sse/internal/token"
)

// bearer is the header with a token for private topics that expires then.
func bearer(t testing.TB, expires time.Time, topics ...string) http.Header {
	t.Helper()
	exp := float64(expires.UnixMilli()) / 1000
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"topics": topics, "exp": exp}).SignedString([]byte(subscribeKey))
	if err != nil {
		t.Fatal(err)
	}
	return http.Header{"Authorization": {"Bearer " + text}}
}

// cookie is the same token in a cookie.
func cookie(header http.Header) http.Header {
	return http.Header{"Cookie": {"access_token=" + strings.TrimPrefix(header.Get("Authorization"), "Bearer ")}}
}

func TestPrivateTopicsAreForTokensThatListThem(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		on := p.start(t, handlers.Options{SubscribeKeys: handlers.Secrets(subscribeKey)})
		off := p.start(t, handlers.Options{})
		later := time.Now().Add(time.Hour)
		alice, builds, all := bearer(t, later, "private/orders/alice"), bearer(t, later, "private/builds/*", "private/orders/alice"), bearer(t, later, "private/*")
		expired := bearer(t, time.Now().Add(-time.Minute), "private/orders/alice")
		forged := http.Header{"Authorization": {alice.Get("Authorization") + "x"}}
		both := cookie(expired)
		maps.Copy(both, alice)
		const challenge, invalid = `Bearer realm="gin-sse"`, `Bearer realm="gin-sse", error="invalid_token", error_description="`
		const scope = `Bearer realm="gin-sse", error="insufficient_scope", error_description="The token does not list the topic `
		for _, test := range []struct {
			site              *site
			query             string
			header            http.Header
			status            int
			reason, challenge string
		}{
			{off, "topic=private/orders/alice", alice, 403, "The topic private/orders/alice is private, and private topics are off. To turn them on, start the server with SUBSCRIBE_KEY", ""},
			{off, "topic=a&topic=private/*", nil, 403, "The topic private/* is private", ""},
			{on, "topic=private/orders/alice", nil, 401, "The topic private/orders/alice needs a token. Send it in a header, Authorization: Bearer TOKEN, or in the cookie access_token.", challenge},
			{on, "topic=a&topic=private/orders/alice", nil, 401, "The topic private/orders/alice needs a token.", challenge},
			{on, "topic=private/orders/alice", forged, 401, "The token is not signed with this server's SUBSCRIBE_KEY.", invalid},
			{on, "topic=private/orders/alice", cookie(forged), 401, "The token is not signed with this server's SUBSCRIBE_KEY.", invalid},
			{on, "topic=private/orders/alice", expired, 401, "The token expired at ", invalid},
			{on, "topic=private/orders/bob", alice, 403, "The token does not list the topic private/orders/bob.", scope + "private/orders/bob"},
			{on, "topic=private/orders/alice&topic=private/orders/bob", alice, 403, "The token does not list the topic private/orders/bob.", scope},
			{on, "topic=private/orders/*", alice, 403, "The token does not list the topic private/orders/*.", scope},
			{on, "topic=private/orders/alice&access_token=" + strings.TrimPrefix(alice.Get("Authorization"), "Bearer "), nil, 400, "A token does not belong in the address", challenge},
		} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				response, text := test.site.ask(method, "/sse?"+test.query, test.header, "")
				if response.StatusCode != test.status || method == http.MethodGet && !strings.HasPrefix(text, `{"error":"`+test.reason) {
					t.Errorf("%s ?%s is answered with %d and %q, want %d and %q", method, test.query, response.StatusCode, text, test.status, test.reason)
				}
				if got := response.Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, test.challenge) || test.challenge == "" && got != "" {
					t.Errorf("%s ?%s: WWW-Authenticate is %q, want %q", method, test.query, got, test.challenge)
				}
				for _, header := range []http.Header{alice, expired, forged} {
					if token := strings.TrimPrefix(header.Get("Authorization"), "Bearer "); strings.Contains(text+fmt.Sprint(response.Header), token[10:40]) {
						t.Errorf("the answer to ?%s repeats a token: %q, %v", test.query, text, response.Header)
					}
				}
			}
		}
		for _, s := range []*site{on, off} {
			if s.events.Stats() != (hub.Stats{}) {
				t.Errorf("what was refused left %+v", s.events.Stats())
			}
		}

		type client struct {
			query  string
			header http.Header
			want   []string
			*testsse.Stream
		}
		const a, b, seven, secretBuild, public = `"private/orders/alice"`, `"private/orders/bob"`, `"private/builds/7"`, `"private/buildsecret"`, `"news"`
		clients := []client{
			{query: "topic=private/orders/alice", header: alice, want: []string{a}},
			{query: "topic=private/orders/alice", header: cookie(alice), want: []string{a}},
			{query: "topic=private/orders/alice", header: both, want: []string{a}},
			{query: "topic=private/orders/alice&topic=news", header: alice, want: []string{a, public}},
			{query: "topic=private/builds/7&topic=private/orders/alice", header: builds, want: []string{a, seven}},
			{query: "topic=private/builds/*", header: builds, want: []string{seven}},
			{query: "topic=private/*", header: all, want: []string{a, b, seven, secretBuild}},
			{query: "topic=private/orders/*", header: all, want: []string{a, b}},
			{query: "topic=*", header: all, want: []string{public}},
			{query: "topic=*", header: nil, want: []string{public}},
			{query: "topic=*&topic=private/*", header: all, want: []string{a, b, seven, secretBuild, public}},
			{query: "topic=*", header: expired, want: []string{public}}, // nobody needs a token for public topics
			{query: "topic=private/nobody", header: all},
		}
		for i, c := range clients {
			clients[i].Stream = on.follow("/sse?"+c.query, c.header)
		}
		for _, topic := range []string{a, b, seven, secretBuild, public} {
			on.publish("/sse?topic="+strings.Trim(topic, `"`), authorized("application/json"), topic)
		}
		_, page := on.ask(http.MethodGet, "/status", nil, "")
		_, metrics := on.ask(http.MethodGet, "/metrics", nil, "")
		figures := on.figures()
		if figures["topics"] != "6" || !strings.Contains(page, ` id="topics">6</`) || !strings.Contains(metrics, "\ngin_sse_topics 6\n") {
			t.Errorf("the status page says %s topics, want 6, in %s", figures["topics"], page)
		}
		on.close()
		for _, c := range clients {
			if got := c.Rest(); !slices.Equal(got, c.want) {
				t.Errorf("?%s got %q, want %q", c.query, got, c.want)
			}
			if got := on.follow("/sse?lastEventId=earliest&"+c.query, c.header).Rest(); !slices.Equal(got, c.want) {
				t.Errorf("?%s has kept %q, want %q", c.query, got, c.want)
			}
		}
		on.stop()
		texts := map[string]string{"/status": page, "/status/sse": fmt.Sprint(figures), "/metrics": metrics}
		for name, text := range texts {
			if strings.Contains(text, "private/") {
				t.Errorf("%s has the name of a private topic: %s", name, text)
			}
		}
		texts["the log"], texts["what package log wrote"] = on.out.String()+off.out.String(), errorLog.String()
		for name, text := range texts {
			for _, header := range []http.Header{alice, builds, all, expired, forged} {
				parts := strings.Split(strings.TrimPrefix(header.Get("Authorization"), "Bearer "), ".")
				if strings.Contains(text, parts[1]) || strings.Contains(text, parts[2]) || strings.Contains(text, subscribeKey) {
					t.Errorf("%s has a token or the key: %s", name, text)
				}
			}
		}
	})
}

// openUntilExpired opens a stream with a token for private/a that expires soon. On a slow machine that may be before the
// stream begins, and then it takes a token that is valid for longer.
func (s *site) openUntilExpired(lifetime time.Duration, path, last string) (*http.Response, time.Time) {
	s.t.Helper()
	for ; lifetime < testwait.Limit; lifetime *= 2 {
		expires := time.Now().Add(lifetime)
		header := bearer(s.t, expires, "private/a")
		header.Set("Last-Event-ID", last)
		response := s.open(path, header)
		if response.StatusCode == http.StatusOK {
			return response, expires
		}
		if time.Now().Before(expires) {
			s.t.Fatalf("%s is answered with %s", path, response.Status)
		}
	}
	s.t.Fatalf("%s: no stream begins before its token has expired", path)
	return nil, time.Time{}
}

func TestAStreamEndsWhenItsTokenExpiresOrItsKeyIsRemovedAndGoesOnWithANewOne(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		keys, replace := keyFile(t, subscribeKey, otherKey)
		s := p.start(t, handlers.Options{SubscribeKeys: keys, History: new(100000)})
		const tokens, lifetime = 3, 300 * time.Millisecond
		done := make(chan struct{})
		var publishing sync.WaitGroup
		published := 0
		publishing.Go(func() {
			pause := time.NewTicker(2 * time.Millisecond)
			defer pause.Stop()
			for {
				select {
				case <-done:
					return
				case <-pause.C:
				}
				published++
				if _, err := s.events.Publish(context.Background(), "private/a", published); err != nil {
					t.Error(err)
					return
				}
			}
		})
		last := "earliest"
		var got []string
		for range tokens {
			response, expires := s.openUntilExpired(lifetime, "/sse?topic=private/a&topic=nobody", last)
			f := testsse.Read(t, response.Body)
			begun := time.Now()
			got = append(got, f.Rest()...)
			last = cmp.Or(f.Last, last) // on a slow machine a token expires before the first event
			switch ended := time.Now(); {
			case ended.Before(expires.Truncate(time.Millisecond)): // which is what the token says
				t.Errorf("the stream ended %v before its token expired", expires.Sub(ended))
			case begun.Before(expires) && ended.Sub(expires) > testwait.Limit/2:
				t.Errorf("the stream ended %v after its token expired", ended.Sub(expires))
			}
		}
		header := signed(t, subscribeKey)
		header.Set("Last-Event-ID", last)
		f := s.follow("/sse?topic=private/a&topic=nobody", header)
		replace(otherKey)
		got = append(got, f.Rest()...)
		last = cmp.Or(f.Last, last)
		if response, text := s.ask(http.MethodGet, "/sse?topic=private/a", header, ""); response.StatusCode != http.StatusUnauthorized {
			t.Errorf("a token of the key before is answered with %s, %s", response.Status, text)
		}
		close(done)
		publishing.Wait()
		s.close()
		header = signed(t, otherKey)
		header.Set("Last-Event-ID", last)
		got = append(got, s.follow("/sse?topic=private/a&topic=nobody", header).Rest()...)
		for i, data := range got {
			if data != fmt.Sprint(i+1) {
				t.Fatalf("event %d is %q", i+1, data)
			}
		}
		if len(got) != published {
			t.Errorf("%d of %d messages arrived", len(got), published)
		}
	})
}

func TestRandomClientsGetAllThatTheyMayReadInOrderAndNothingElse(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, handlers.Options{SubscribeKeys: handlers.Secrets(subscribeKey)})
		issue := func(topics ...string) http.Header {
			header := bearer(t, time.Now().Add(time.Hour), topics...)
			if len(topics) > 1 {
				return cookie(header)
			}
			return header
		}
		testcrowd.FollowTopics(t, publishToken, issue, testcrowd.Replica{URL: s.url, Client: s.client})
	})
}

func TestATopicThatIsNotPublicNeedsATokenThatListsIt(t *testing.T) {
	t.Parallel()
	later := time.Now().Add(time.Hour)
	s := start(t, handlers.Options{SubscribeKeys: handlers.Secrets(subscribeKey), PublicTopics: []string{"news", "builds/*"}})
	for _, test := range []struct {
		query  string
		header http.Header
		status int
	}{
		{"", nil, 200},
		{"topic=news", nil, 200},
		{"topic=news&topic=builds/7&topic=builds/*", nil, 200},
		{"topic=builds/a/*", nil, 200},
		{"topic=builds", nil, 401},
		{"topic=news/1", nil, 401},
		{"topic=news/*", nil, 401},
		{"topic=orders/7", nil, 401},
		{"topic=news&topic=orders/7", nil, 401},
		{"topic=*", nil, 401},
		{"topic=private/a", nil, 401},
		{"topic=orders/7", bearer(t, later, "orders/*"), 200},
		{"topic=orders/*&topic=news", bearer(t, later, "orders/*"), 200},
		{"topic=orders/*", bearer(t, later, "orders/7"), 403},
		{"topic=*", bearer(t, later, "orders/*"), 403},
		{"topic=*", bearer(t, later, "*"), 200},
		{"topic=orders/7", bearer(t, later, "*"), 200},
		{"topic=private/a", bearer(t, later, "*"), 403},
		{"topic=private/a&topic=orders/7", bearer(t, later, "private/*"), 403},
	} {
		response, text := s.ask(http.MethodHead, "/sse?"+test.query, test.header, "")
		if response.StatusCode != test.status {
			t.Errorf("?%s with %v is answered with %s, %s; want %d", test.query, test.header, response.Status, text, test.status)
		}
	}
	all := s.follow("/sse?topic=*", bearer(t, later, "*"))
	s.publish("/sse?topic=orders/7", authorized("application/json"), "1")
	all.Wants("1")
	s.follow("/sse?topic=orders/7", bearer(t, later, "orders/7"))
	s.follow("/sse?topic=news", nil)
	if _, page := s.ask(http.MethodGet, "/status", nil, ""); strings.Contains(page, "orders/7") || !strings.Contains(page, ">news<") {
		t.Errorf("the status page shows %s", page)
	}
	closed := start(t, handlers.Options{PublicTopics: []string{"news"}})
	if response, text := closed.ask(http.MethodGet, "/sse?topic=orders/7", nil, ""); response.StatusCode != http.StatusForbidden || !strings.Contains(text, "private topics are off") {
		t.Errorf("without a key: %s, %s", response.Status, text)
	}
}

func TestStreamsThatTakeATokenAreStoredByNobody(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, handlers.Options{SubscribeKeys: handlers.Secrets(subscribeKey)})
		private, _ := testsse.Get(t, s.client, s.url+"/sse?topic=private/a", signed(t, subscribeKey))
		public := s.get("/sse?topic=a")
		for response, want := range map[*http.Response][]string{private: {"no-store", "no-cache, no-transform"}, public: {"no-cache, no-transform"}} {
			if got := response.Header.Values("Cache-Control"); !slices.Equal(got, want) {
				t.Errorf("%s: Cache-Control %q, want %q", response.Request.URL, got, want)
			}
		}
		if got := private.Header.Values("Vary"); !slices.Contains(got, "Authorization, Cookie") {
			t.Errorf("Vary: %q", got)
		}
	})
}

// keyFile returns the keys in a file, and what replaces them and has them read again.
func keyFile(t *testing.T, keys ...string) (list *secret.List, replace func(keys ...string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	replace = func(keys ...string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(strings.Join(keys, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		if list != nil {
			list.Reload(time.Now())
		}
	}
	replace(keys...)
	list, err := secret.OpenList("SUBSCRIBE_KEY_FILE", path, token.CheckKey)
	if err != nil {
		t.Fatal(err)
	}
	return list, replace
}

// signed is the header with a token for private/* that the key signs.
func signed(t *testing.T, key string) http.Header {
	t.Helper()
	claims := jwt.MapClaims{"topics": []string{"private/*"}, "exp": time.Now().Add(time.Hour).Unix(), "sub": "alice"}
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return http.Header{"Authorization": {"Bearer " + text}}
}

const otherKey = "fedcba9876543210fedcba9876543210"

func TestRemovingAKeyEndsItsStreamsAlone(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		keys, replace := keyFile(t, subscribeKey, otherKey)
		s := p.start(t, handlers.Options{SubscribeKeys: keys})
		ends, stays, public := s.follow("/sse?topic=private/a", signed(t, subscribeKey)), s.follow("/sse?topic=private/a", signed(t, otherKey)), s.follow("/sse?topic=a", nil)
		replace("")
		replace(otherKey)
		ends.WantsRest()
		for _, topic := range []string{"private/a", "a"} {
			if _, err := s.events.Publish(t.Context(), topic, 1); err != nil {
				t.Fatal(err)
			}
		}
		stays.Wants("1")
		public.Wants("1")
		line := s.out.Wait(t, " msg=stream ")
		if !strings.HasSuffix(line, ` ended=revoked sub=alice topics=private/a events=0`) {
			t.Errorf("the log has %q", line)
		}
		if _, text := s.ask(http.MethodGet, "/metrics", nil, ""); !strings.Contains(text, "\ngin_sse_streams_ended_total{reason=\"revoked\"} 1\n") {
			t.Errorf("the figures are %s", text)
		}
		problem := `level=ERROR msg="SUBSCRIBE_KEY_FILE: the new content cannot be used, and what was read before stays in force" error="the file has no secret`
		if lines := errorLog.Lines(problem); len(lines) == 0 {
			t.Errorf("the log has %q", errorLog.String())
		}
	})
}
