package main

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestAllowedOriginsMayOpenTheStream(t *testing.T) {
	t.Parallel()
	const dev, other, evil = "http://localhost:5173", "https://example.com", "https://evil.example"
	for _, test := range []struct {
		allowed, origin string
		status          int
		allow           string
	}{
		{"", dev, 200, ""},
		{dev, dev, 200, dev},
		{dev + ", " + other, other, 200, other},
		{dev, evil, 403, ""},
		{dev, dev + "0", 403, ""},
		{dev, "null", 403, ""},
		{dev, "", 200, ""},
		{"*", evil, 200, "*"},
	} {
		s := start(t, "ALLOWED_ORIGINS="+test.allowed)
		for _, method := range []string{http.MethodGet, http.MethodOptions} {
			want := test.status
			header := http.Header{}
			if test.origin != "" {
				header.Set("Origin", test.origin)
			}
			if method == http.MethodOptions {
				if test.origin == "" || test.allowed == "" {
					continue
				}
				header.Set("Access-Control-Request-Method", http.MethodGet)
				header.Set("Access-Control-Request-Headers", "last-event-id")
				if want == http.StatusOK {
					want = http.StatusNoContent
				}
			}
			request, err := http.NewRequest(method, s.url+"/sse", nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header = header
			response, err := s.client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if got := response.Header.Get("Access-Control-Allow-Origin"); response.StatusCode != want || got != test.allow {
				t.Errorf("ALLOWED_ORIGINS=%q, %s from %q: status %d, allowed %q; want %d, %q",
					test.allowed, method, test.origin, response.StatusCode, got, want, test.allow)
			}
			credentials := response.Header.Get("Access-Control-Allow-Credentials") == "true"
			if listed := test.allow != "" && test.allow != "*"; credentials != listed {
				t.Errorf("ALLOWED_ORIGINS=%q, %s from %q: credentials allowed: %v", test.allowed, method, test.origin, credentials)
			}
		}
	}
}

func TestNoOtherOriginMayPublishFromABrowser(t *testing.T) {
	t.Parallel()
	const evil = "https://evil.example"
	for _, allowed := range []string{"", evil, "*"} {
		s := start(t, "ALLOWED_ORIGINS="+allowed)
		// With the token in a header, a browser asks for permission first, and gets none.
		preflight, _ := s.ask(http.MethodOptions, "/sse", http.Header{
			"Origin":                         {evil},
			"Access-Control-Request-Method":  {http.MethodPost},
			"Access-Control-Request-Headers": {"authorization,content-type"},
		}, "")
		methods, headers := preflight.Header.Get("Access-Control-Allow-Methods"), strings.ToLower(preflight.Header.Get("Access-Control-Allow-Headers"))
		mayAuthorize := strings.Contains(headers, "authorization") // for private topics; the page would need the token as well
		if strings.ContainsAny(methods+headers, "*") || strings.Contains(methods, http.MethodPost) || mayAuthorize != (allowed == evil) {
			t.Errorf("ALLOWED_ORIGINS=%q: a browser may send %q with %q", allowed, methods, headers)
		}
		// A request that needs no permission has no token.
		for _, contentType := range []string{"application/x-www-form-urlencoded", "text/plain"} {
			header := http.Header{"Origin": {evil}, "Content-Type": {contentType}, "Cookie": {"token=" + secret}}
			if response, _ := s.ask(http.MethodPost, "/sse", header, "message=forged"); response.StatusCode != http.StatusUnauthorized {
				t.Errorf("ALLOWED_ORIGINS=%q: a form is answered with %d", allowed, response.StatusCode)
			}
		}
	}
}

func TestPagesOfListedOriginsMayUseTokensAndCookiesAndNoOthers(t *testing.T) {
	t.Parallel()
	const shop = "https://shop.example"
	for _, test := range []struct {
		allowed, origin string
		may, reads      bool // send credentials; read the answer
	}{{shop, shop, true, true}, {shop, "https://evil.example", false, false}, {"*", shop, false, true}, {"", shop, false, false}} {
		s := start(t, "ALLOWED_ORIGINS="+test.allowed, "SUBSCRIBE_KEY="+subscribeKey)
		s.close() // streams end at once
		preflight, _ := s.ask(http.MethodOptions, "/sse?topic=private/a", http.Header{
			"Origin": {test.origin}, "Access-Control-Request-Method": {http.MethodGet}, "Access-Control-Request-Headers": {"authorization,last-event-id"},
		}, "")
		allowed := strings.ToLower(preflight.Header.Get("Access-Control-Allow-Headers"))
		if got := strings.Contains(allowed, "authorization"); got != test.may {
			t.Errorf("ALLOWED_ORIGINS=%q, a page of %s may send %q", test.allowed, test.origin, allowed)
		}
		if got := strings.Contains(allowed, "last-event-id"); got != test.reads {
			t.Errorf("ALLOWED_ORIGINS=%q, a page of %s may send %q", test.allowed, test.origin, allowed)
		}
		for _, header := range []http.Header{{}, cookie(bearer(t, time.Now().Add(time.Hour), "private/a"))} { // 401 and 200
			header.Set("Origin", test.origin)
			response, _ := s.ask(http.MethodGet, "/sse?topic=private/a", header, "")
			if got := response.Header.Get("Access-Control-Allow-Credentials") == "true"; got != test.may {
				t.Errorf("ALLOWED_ORIGINS=%q, origin %s, status %d: credentials are allowed: %v", test.allowed, test.origin, response.StatusCode, got)
			}
			if got := response.Header.Get("Access-Control-Allow-Origin") != ""; got != test.reads {
				t.Errorf("ALLOWED_ORIGINS=%q, origin %s, status %d: the page may read it: %v", test.allowed, test.origin, response.StatusCode, got)
			}
		}
	}
}
