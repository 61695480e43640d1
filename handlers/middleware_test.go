package handlers_test

import (
	"bytes"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
)

// behind returns a function that sends a request to a handler behind the log and CORS, which answers with 503.
func behind(log *bytes.Buffer, origins ...string) func(method, path, origin string) (*http.Response, string) {
	app := gin.New()
	app.Use(handlers.RequestLog(logger(log)), handlers.CORS(origins))
	app.Any("/sse", func(c *gin.Context) {
		c.Header("Retry-After", "5")
		c.Status(http.StatusServiceUnavailable)
	})
	return func(method, path, origin string) (*http.Response, string) {
		request := httptest.NewRequest(method, path, nil)
		request.Header.Set("Origin", origin)
		answer := httptest.NewRecorder()
		app.ServeHTTP(answer, request)
		return answer.Result(), answer.Body.String()
	}
}

func TestAPageOfAnotherOriginMayReadWhatItNeedsToKnow(t *testing.T) {
	t.Parallel()
	const page = "https://shop.example"
	for _, allowed := range []string{page, "*"} {
		response, _ := behind(new(bytes.Buffer), allowed)(http.MethodGet, "/sse", page)
		exposed := strings.Split(response.Header.Get("Access-Control-Expose-Headers"), ",")
		for _, name := range []string{"Retry-After", "Www-Authenticate", "Allow", "Date", "Etag"} {
			if !slices.ContainsFunc(exposed, func(s string) bool { return strings.EqualFold(strings.TrimSpace(s), name) }) {
				t.Errorf("ALLOWED_ORIGINS=%s: status %d exposes %q, without %s", allowed, response.StatusCode, exposed, name)
			}
		}
	}
}

func TestNoOtherOriginMayPublishFromABrowser(t *testing.T) {
	t.Parallel()
	const evil = "https://evil.example"
	for _, allowed := range []string{"", evil, "*"} {
		s := start(t, handlers.Options{}, origins(allowed))
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
			header := http.Header{"Origin": {evil}, "Content-Type": {contentType}, "Cookie": {"token=" + publishToken}}
			if response, _ := s.ask(http.MethodPost, "/sse", header, "message=forged"); response.StatusCode != http.StatusUnauthorized {
				t.Errorf("ALLOWED_ORIGINS=%q: a form is answered with %d", allowed, response.StatusCode)
			}
		}
	}
}

// origins lets pages of these origins, separated by commas, use a site.
func origins(list string) func(*site) {
	return func(s *site) {
		if list != "" {
			s.origins = strings.Split(list, ", ")
		}
	}
}

func TestPagesOfListedOriginsMayReadAndSendCookiesAndTokensAndNoOthers(t *testing.T) {
	t.Parallel()
	const shop, dev, evil = "https://shop.example", "http://localhost:5173", "https://evil.example"
	for _, test := range []struct {
		allowed, origin string
		status          int    // of a stream
		reads           string // Access-Control-Allow-Origin
		sends           bool   // cookies and tokens
	}{
		{"", shop, 200, "", false},
		{shop, shop, 200, shop, true},
		{dev + ", " + shop, shop, 200, shop, true},
		{dev, evil, 403, "", false},
		{dev, dev + "0", 403, "", false},
		{dev, "null", 403, "", false},
		{dev, "", 200, "", false},
		{"*", evil, 200, "*", false},
	} {
		s := start(t, handlers.Options{SubscribeKeys: handlers.Secrets(subscribeKey)}, origins(test.allowed))
		s.close() // streams end at once
		header := http.Header{}
		if test.origin != "" {
			header.Set("Origin", test.origin)
		}
		token := cookie(bearer(t, time.Now().Add(time.Hour), "private/a"))
		maps.Copy(token, header)
		refused := max(test.status, http.StatusUnauthorized)
		for _, request := range []struct {
			query  string
			header http.Header
			status int
		}{{"", header, test.status}, {"?topic=private/a", header, refused}, {"?topic=private/a", token, test.status}} {
			response, _ := s.ask(http.MethodGet, "/sse"+request.query, request.header, "")
			reads, sends := response.Header.Get("Access-Control-Allow-Origin"), response.Header.Get("Access-Control-Allow-Credentials") == "true"
			if response.StatusCode != request.status || reads != test.reads || sends != test.sends {
				t.Errorf("ALLOWED_ORIGINS=%q, from %q: /sse%s is answered with %d for %q, with credentials: %t; want %d, %q, %t",
					test.allowed, test.origin, request.query, response.StatusCode, reads, sends, request.status, test.reads, test.sends)
			}
		}
		if test.origin == "" || test.allowed == "" {
			continue // no browser asks, or it gets no permission
		}
		header.Set("Access-Control-Request-Method", http.MethodGet)
		header.Set("Access-Control-Request-Headers", "authorization,last-event-id")
		preflight, _ := s.ask(http.MethodOptions, "/sse", header, "")
		may := strings.ToLower(preflight.Header.Get("Access-Control-Allow-Headers"))
		if (preflight.StatusCode == http.StatusNoContent) != (test.reads != "") || strings.Contains(may, "last-event-id") != (test.reads != "") || strings.Contains(may, "authorization") != test.sends {
			t.Errorf("ALLOWED_ORIGINS=%q, from %q: the answer to a preflight is %d, and a page may send %q", test.allowed, test.origin, preflight.StatusCode, may)
		}
	}
}

func TestAPageOfAnOriginThatIsNotListedGetsAReasonAndALineInTheLog(t *testing.T) {
	t.Parallel()
	listed := []string{"https://shop.example", "capacitor://localhost", "chrome-extension://abcdefghijklmnop", "file://", "http://localhost:5173"}
	var log bytes.Buffer
	send := behind(&log, listed...)
	for _, origin := range listed {
		response, _ := send(http.MethodGet, "/sse", origin)
		if got := response.Header.Get("Access-Control-Allow-Origin"); response.StatusCode != http.StatusServiceUnavailable || got != origin {
			t.Errorf("%s: status %d, allowed %q", origin, response.StatusCode, got)
		}
	}
	for _, origin := range []string{"https://evil.example", "http://shop.example", "https://shop.example:8443", "https://SHOP.example", "capacitor://other", "null", "x\"<\\", "/.*/"} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodOptions, http.MethodHead} {
			log.Reset()
			response, body := send(method, "/sse", origin)
			reason := ` may not use this server. Its setting ALLOWED_ORIGINS lists those that may."}`
			if response.StatusCode != http.StatusForbidden || !strings.HasSuffix(body, reason) || response.Header.Get("Content-Type") != "application/json; charset=utf-8" || response.Header.Get("Vary") != "Origin" {
				t.Errorf("%s from %s: status %d, %q, header %v", method, origin, response.StatusCode, body, response.Header)
			}
			if line := log.String(); !strings.Contains(line, " status=403 ") || !strings.Contains(line, "ALLOWED_ORIGINS does not list ") || strings.Count(line, "\n") != 1 {
				t.Errorf("%s from %s: the log has %q", method, origin, line)
			}
		}
	}
}

func TestOnlyAPublishersAnswerIsWithoutTheHeadersForPages(t *testing.T) {
	t.Parallel()
	app := gin.New()
	app.Use(handlers.Secure())
	app.Any("/sse", func(*gin.Context) {})
	for _, test := range []struct {
		method, authorization string
		want                  bool
	}{
		{http.MethodGet, "", true},
		{http.MethodGet, "Bearer secret", true},
		{http.MethodPost, "", true},
		{http.MethodPost, "Basic secret", true},
		{http.MethodPost, "Bearer secret", false},
	} {
		request := httptest.NewRequest(test.method, "/sse", nil)
		request.Header.Set("Authorization", test.authorization)
		answer := httptest.NewRecorder()
		app.ServeHTTP(answer, request)
		for _, name := range []string{"Content-Security-Policy", "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy"} {
			if got := answer.Header().Get(name); (got != "") != test.want {
				t.Errorf("%s with %q: %s is %q", test.method, test.authorization, name, got)
			}
		}
	}
}
