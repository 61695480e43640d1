package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
)

func TestEachKindOfRequestIsAnObjectOfJSONAndARefusedOneHasItsReason(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil, "LOG_FORMAT=json", "SUBSCRIBE_KEY="+subscribeKey, "MAX_CLIENTS=2", "MAX_EVENT_BYTES=100", "ALLOWED_ORIGINS=https://shop.example")
		later := time.Now().Add(time.Hour)
		alice := signed(t, subscribeKey)
		first := s.follow("/sse?topic=private/a&topic=news&lastEventId=earliest", alice)
		second := s.follow("/sse?topic=news/*", nil)
		long := strings.Repeat("x", 101)
		plain := authorized("text/plain")
		for _, test := range []struct {
			method, target string
			header         http.Header
			body           string
			status         int
			reason         string
		}{
			{"GET", "/", nil, "", 200, ""},
			{"HEAD", "/style.css", nil, "", 200, ""},
			{"GET", "/nope?a=b", nil, "", 404, "There is nothing at this address."},
			{"GET", "/nope", http.Header{"Accept": {"text/html"}}, "", 404, "There is nothing at this address."},
			{"DELETE", "/sse", nil, "", 405, "This address accepts only "},
			{"GET", "/sse", nil, "", 503, "all places are taken (MAX_CLIENTS)"},
			{"GET", "/sse?topics=a", nil, "", 400, `"topics" is unknown in the query of a GET`},
			{"GET", "/sse?topic=private/b", nil, "", 401, "The topic private/b needs a token."},
			{"GET", "/sse?topic=private/b", bearer(t, later, "private/a"), "", 403, "The token does not list the topic private/b."},
			{"GET", "/sse?topic=private/b", bearer(t, time.Now().Add(-time.Hour), "private/b"), "", 401, "The token expired at "},
			{"GET", "/sse?topic=private/b", signed(t, otherKey), "", 401, "The token is not signed with this server's SUBSCRIBE_KEY."},
			{"GET", "/sse?access_token=s3cr3t", nil, "", 400, "A token does not belong in the address"},
			{"GET", "/sse", http.Header{"Origin": {"https://evil.example"}}, "", 403, "ALLOWED_ORIGINS does not list https://evil.example"},
			{"GET", "/sse?" + strings.Repeat("x", 17<<10), nil, "", 431, "The address and the headers have "},
			{"POST", "/sse?topic=news", authorized("application/json"), `"hello"`, 202, ""},
			{"POST", "/sse?topic=news/1", authorized("application/json"), `{`, 400, "The event cannot be published: the body is not JSON"},
			{"POST", "/sse?topic=news/1", authorized("application/json"), `"` + long + `"`, 413, "The event is too large: this server accepts up to 100 bytes (MAX_EVENT_BYTES)."},
			{"POST", "/sse?topic=news/1", authorized("application/x-ndjson"), "1\n{\n", 400, "Line 2 cannot be published"},
			{"POST", "/sse?topic=ended&end=true", plain, "1\n", 202, ""},
			{"POST", "/sse?topic=ended", plain, "1\n", 409, "Line 1: This topic has ended."},
			{"POST", "/sse?topic=news/1", authorized("image/png"), "x", 415, `Content-Type "image/png" is not accepted.`},
			{"POST", "/sse", http.Header{"Authorization": {"Bearer wr0ng"}}, "", 401, "The token in the header Authorization is not the server's PUBLISH_TOKEN."},
			{"GET", "/status", nil, "", 200, ""},
		} {
			before := len(s.out.Lines(""))
			response, text := s.ask(test.method, test.target, test.header, test.body)
			if response.StatusCode != test.status {
				t.Errorf("%s %.50s is answered with %s, %s", test.method, test.target, response.Status, text)
			}
			line := s.out.WaitFor(t, "", before+1, testwait.Limit)[before]
			var got struct {
				Time                                            time.Time
				Level, Msg, Method, Path, Client, Reason, Ended string
				Status                                          int
				Seconds                                         float64
			}
			if err := json.Unmarshal([]byte(line), &got); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			level := "INFO"
			if test.status >= 500 {
				level = "WARN"
			}
			path, _, _ := strings.Cut(test.target, "?")
			if got.Level != level || got.Msg != "request" || got.Method != test.method || !strings.HasPrefix(got.Path, path) || got.Client != "127.0.0.1" ||
				got.Status != test.status || got.Seconds <= 0 || time.Since(got.Time) > testwait.Limit || got.Ended != "" {
				t.Errorf("%s %.50s: the log has %s", test.method, test.target, line)
			}
			if !strings.HasPrefix(got.Reason, test.reason) || test.reason == "" && got.Reason != "" {
				t.Errorf("%s %.50s: the reason is %q, want %q", test.method, test.target, got.Reason, test.reason)
			}
		}
		first.Wants(`"hello"`)
		s.follow("/status/sse", nil)
		s.close()
		second.WantsRest("1")
		s.out.WaitFor(t, `"msg":"stream"`, 3, testwait.Limit)
		ended := map[string]map[string]any{}
		for _, line := range s.out.Lines(`"msg":"stream"`) {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			delete(fields, "time")
			delete(fields, "seconds")
			ended[fields["topics"].(string)] = fields
		}
		stream := func(more map[string]any) map[string]any {
			fields := map[string]any{"level": "INFO", "msg": "stream", "method": "GET", "path": "/sse", "status": 200.0, "client": "127.0.0.1", "ended": "complete"}
			maps.Copy(fields, more)
			return fields
		}
		for topics, want := range map[string]map[string]any{
			"news private/a": stream(map[string]any{"topics": "news private/a", "events": 1.0, "sub": "alice"}),
			"news/*":         stream(map[string]any{"topics": "news/*", "events": 1.0}), // the first line of an upload
			"":               stream(map[string]any{"topics": "", "events": 1.0, "path": "/status/sse"}),
		} {
			if !maps.Equal(ended[topics], want) {
				t.Errorf("the line of the stream of %q is %v, want %v", topics, ended[topics], want)
			}
		}
		for _, secret := range []string{secret, "wr0ng", "s3cr3t", subscribeKey, alice.Get("Authorization")[20:]} {
			if strings.Contains(s.out.String(), secret) {
				t.Errorf("the log has a secret: %s", s.out.String())
			}
		}
	})
}

func TestALineSaysWhyAStreamEnded(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil, "SUBSCRIBE_KEY="+subscribeKey)
		s.follow("/sse?topic=leaves", nil).Leave()
		s.ask(http.MethodGet, "/sse?topic=fetches&follow=false", nil, "")
		over := s.follow("/sse?topic=ends", nil)
		s.publish("/sse?topic=ends&end=true", authorized("application/json"), "1")
		over.WantsRest("1")
		expires, _ := s.openUntilExpired(time.Second, "/sse?topic=private/a", "")
		testsse.Read(t, expires.Body).WantsRest()
		for topic, want := range map[string]string{"leaves": "left", "fetches": "complete", "ends": "complete", "private/a": "expired"} {
			if line := s.out.Wait(t, " topics="+topic+" "); !strings.Contains(line, " ended="+want+" ") {
				t.Errorf("the log has %q, want ended=%s", line, want)
			}
		}
	})
}

func TestAllPlacesTakenIsOneLineAMinute(t *testing.T) {
	t.Parallel()
	s := start(t, "MAX_CLIENTS=3") // as no other test has it: they share the log
	for range 3 {
		s.follow("/sse", nil)
	}
	before := len(errorLog.Lines(" path=/sse places=3"))
	for range 20 {
		s.ask(http.MethodGet, "/sse", nil, "")
	}
	if n := len(errorLog.Lines(" path=/sse places=3")) - before; n < 1 || n > 2 {
		t.Errorf("%d lines", n)
	}
}

func TestATopicThatIsNotPublicNeedsATokenThatListsIt(t *testing.T) {
	t.Parallel()
	later := time.Now().Add(time.Hour)
	s := start(t, "SUBSCRIBE_KEY="+subscribeKey, "PUBLIC_TOPICS=news,builds/*")
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
	closed := start(t, "PUBLIC_TOPICS=news")
	if response, text := closed.ask(http.MethodGet, "/sse?topic=orders/7", nil, ""); response.StatusCode != http.StatusForbidden || !strings.Contains(text, "private topics are off") {
		t.Errorf("without a key: %s, %s", response.Status, text)
	}
}

func TestStreamsThatTakeATokenAreStoredByNobody(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil, "SUBSCRIBE_KEY="+subscribeKey)
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
