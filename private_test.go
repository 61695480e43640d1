package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"gin-sse/internal/hub"
	"gin-sse/internal/testcrowd"
	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
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
		on := p.start(t, nil, "SUBSCRIBE_KEY="+subscribeKey, "METRICS=true")
		off := p.start(t, nil)
		later := time.Now().Add(time.Hour)
		alice, builds, all := bearer(t, later, "private/orders/alice"), bearer(t, later, "private/builds/*", "private/orders/alice"), bearer(t, later, "private/*")
		expired := bearer(t, time.Now().Add(-time.Minute), "private/orders/alice")
		forged := http.Header{"Authorization": {alice.Get("Authorization") + "x"}}
		both := cookie(expired)
		maps.Copy(both, alice)
		bothWrong := cookie(alice)
		maps.Copy(bothWrong, expired)
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
			{on, "topic=*&topic=private/*", nil, 401, "The topic private/* needs a token.", challenge},
			{on, "topic=private/orders/alice", authorized(""), 401, "The token is not a JWT", invalid},
			{on, "topic=private/orders/alice", forged, 401, "The token is not signed with this server's SUBSCRIBE_KEY.", invalid},
			{on, "topic=private/orders/alice", cookie(forged), 401, "The token is not signed with this server's SUBSCRIBE_KEY.", invalid},
			{on, "topic=private/orders/alice", expired, 401, "The token expired at ", invalid},
			{on, "topic=private/orders/alice", bothWrong, 401, "The token expired at ", invalid},
			{on, "topic=private/orders/bob", alice, 403, "The token does not list the topic private/orders/bob.", scope + "private/orders/bob"},
			{on, "topic=private/orders/alice&topic=private/orders/bob", alice, 403, "The token does not list the topic private/orders/bob.", scope},
			{on, "topic=private/orders/alice/x", alice, 403, "The token does not list the topic private/orders/alice/x.", scope},
			{on, "topic=private/orders/*", alice, 403, "The token does not list the topic private/orders/*.", scope},
			{on, "topic=private/*", builds, 403, "The token does not list the topic private/*.", scope},
			{on, "topic=private/buildsecret", builds, 403, "The token does not list the topic private/buildsecret.", scope},
			{on, "topic=private/builds", builds, 403, "The token does not list the topic private/builds.", scope},
			{on, "topic=private/orders/alice&access_token=" + strings.TrimPrefix(alice.Get("Authorization"), "Bearer "), nil, 400, "A token does not belong in the address", challenge},
			{on, "token=x", nil, 400, "A token does not belong in the address", challenge},
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

func TestAStreamEndsWhenItsTokenExpiresAndGoesOnWithANewOne(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil, "SUBSCRIBE_KEY="+subscribeKey, "HISTORY=100000")
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
		close(done)
		publishing.Wait()
		s.close()
		header := bearer(t, time.Now().Add(time.Hour), "private/*")
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

func TestAClientThatIsFarBehindGetsNothingMoreOnceItsTokenHasExpired(t *testing.T) {
	t.Parallel()
	for _, p := range []protocol{http1, http2} { // encrypting so much would take long
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			const messages, size = 24, 1 << 20 // more than all buffers on the way
			s := p.start(t, nil, "SUBSCRIBE_KEY="+subscribeKey, "MAX_EVENT_BYTES=2000000")
			for range messages {
				if _, err := s.events.Publish(t.Context(), "private/a", strings.Repeat("x", size)); err != nil {
					t.Fatal(err)
				}
			}
			response, expires := s.openUntilExpired(time.Second, "/sse?topic=private/a", "earliest")
			<-time.After(time.Until(expires.Add(10 * time.Millisecond))) // meanwhile it reads nothing
			n, err := io.Copy(io.Discard, response.Body)
			if err != nil || n >= messages*size {
				t.Errorf("after its token had expired, the client got %d MiB of %d and the end %v", n>>20, messages, err)
			}
		})
	}
}

func TestRandomClientsGetAllThatTheyMayReadInOrderAndNothingElse(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil, "SUBSCRIBE_KEY="+subscribeKey)
		issue := func(topics ...string) http.Header {
			header := bearer(t, time.Now().Add(time.Hour), topics...)
			if len(topics) > 1 {
				return cookie(header)
			}
			return header
		}
		testcrowd.FollowTopics(t, secret, issue, testcrowd.Replica{URL: s.url, Client: s.client})
	})
}
