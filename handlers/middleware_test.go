package handlers_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

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
