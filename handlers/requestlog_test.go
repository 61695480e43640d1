package handlers_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
	"gin-sse/internal/stream"
	"gin-sse/internal/testlog"
)

// logged serves one request with handle and returns what the log has of it.
func logged(request *http.Request, handle gin.HandlerFunc) string {
	var log bytes.Buffer
	app := gin.New()
	app.Use(handlers.RequestLog(&log))
	app.NoRoute(handle)
	app.ServeHTTP(httptest.NewRecorder(), request)
	return log.String()
}

// requestFor is a request that need not be what a client would send.
func requestFor(method, path, query string) *http.Request {
	request := httptest.NewRequest(http.MethodGet, "/", nil)
	request.Method, request.URL.Path, request.URL.RawQuery = method, path, query
	return request
}

func TestTheLogHasOneLineForEachRequestInGinsFormat(t *testing.T) {
	t.Parallel()
	line := logged(requestFor("GET", "/sse", "topic=news&lastEventId=a-7"), func(c *gin.Context) { c.Status(http.StatusTeapot) })
	format := regexp.MustCompile(`^\[GIN\] \d{4}/\d\d/\d\d - \d\d:\d\d:\d\d \| 418 \| +[0-9.]+[nµm]?s \|       192\.0\.2\.1 \| GET      "/sse\?topic=news&lastEventId=a-7"` + "\n$")
	if !format.MatchString(line) {
		t.Errorf("the log has %q", line)
	}

	// Gin's own logger writes the same, but for the duration.
	var gins bytes.Buffer
	app := gin.New()
	app.Use(gin.LoggerWithWriter(&gins))
	app.NoRoute(func(c *gin.Context) { c.Status(http.StatusTeapot) })
	app.ServeHTTP(httptest.NewRecorder(), requestFor("GET", "/sse", "topic=news&lastEventId=a-7"))
	if !format.Match(gins.Bytes()) {
		t.Errorf("Gin writes %q", gins.String())
	}
}

func TestProbesAreNotLogged(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		served := false
		if line := logged(requestFor("GET", path, "x=y"), func(*gin.Context) { served = true }); line != "" || !served {
			t.Errorf("%s: served %t, and the log has %q", path, served, line)
		}
	}
}

func TestErrorsAreOnTheLineOfTheirRequest(t *testing.T) {
	t.Parallel()
	line := logged(requestFor("GET", "/", ""), func(c *gin.Context) {
		_ = c.Error(errors.New("the first"))
		_ = c.Error(errors.New("the\nsecond"))
		_ = c.Error(errors.New("for the client")).SetType(gin.ErrorTypePublic)
	})
	if !strings.HasSuffix(line, ` "/" "the first; the\nsecond"`+"\n") {
		t.Errorf("the log has %q", line)
	}
}

func TestWhateverAClientSendsTheLineIsOneAndShort(t *testing.T) {
	t.Parallel()
	long := func(s string) string { return strings.Repeat(s, 4000/len(s)) }
	for _, text := range []string{
		long("x"), long("/"), long("é"), long("€"), long("😀"), long("\x00"), long("\xff"), long("\x80"), long("\u202e"),
		long(`"`), long(`\`), long("&"), long("="), long("%"), long("a=b&"), long("\n[GIN] 2"), "\x1b[31mred", "\r\nforged", "GET | 200",
	} {
		for _, request := range []*http.Request{requestFor(text, "/", ""), requestFor("GET", text, ""), requestFor("GET", "/", text), requestFor(text, text, text)} {
			line := logged(request, func(c *gin.Context) { _ = c.Error(errors.New(text)) })
			if len(line) > 2500 || strings.Count(line, "\n") != 1 || strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\x00\r\x1b\u202e\ufffd") {
				t.Errorf("%.20q: a line of %d bytes, %.200q", text, len(line), line)
			}
			if !regexp.MustCompile(`^\[GIN\] [^|"]+\| 404 \|[^|"]+\|[^|"]+\| ("|GET +")`).MatchString(line) {
				t.Errorf("%.20q forges the line %.200q", text, line)
			}
		}
	}
}

func TestTextThatIsCutSaysHowLongItWas(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ method, path, want string }{
		{"GET", "/" + strings.Repeat("x", 255), `| GET      "/` + strings.Repeat("x", 255) + `"`},
		{"GET", "/" + strings.Repeat("x", 3899), `| GET      "/` + strings.Repeat("x", 255) + `…(3900 bytes)"`},
		{"GET", "/" + strings.Repeat("é", 200), `| GET      "/` + strings.Repeat("é", 127) + `…(401 bytes)"`}, // no half letter
		{strings.Repeat("A", 17), "/", `| "` + strings.Repeat("A", 16) + `…(17 bytes)"  "/"`},
	} {
		if line := logged(requestFor(test.method, test.path, ""), func(*gin.Context) {}); !strings.HasSuffix(line, test.want+"\n") {
			t.Errorf("the log has %q, want %q at its end", line, test.want)
		}
	}
}

func TestCredentialsAreNotLogged(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"access_token=s3cret":                       "access_token=***",
		"topic=a&token=s3cret&topic=b":              "topic=a&token=***&topic=b",
		"authorization=Bearer%20s3cret":             "authorization=***",
		"Authorization=Bearer+s3cret":               "Authorization=***",
		"JWT=s3cret":                                "JWT=***",
		"key=s3cret":                                "key=***",
		"api_key=s3cret=":                           "api_key=***",
		"access%5Ftoken=s3cret":                     "access_token=***",
		"%74oken=s3cret":                            "token=***",
		"token%3Ds3cret=x":                          "token=***",
		"token=%zzs3cret":                           "***",
		"token[]=s3cret":                            "token[]=***",
		"a=1;token=s3cret":                          "a=***",
		"next=%2Fx%3Ftoken%3Ds3cret":                "next=***",
		"next=/x?token=s3cret":                      "next=***",
		"t=eyJhbGciOi.s3cret.x":                     "t=***",
		"eyJhbGciOi.s3cret.x":                       "***",
		"eyJhbGciOi.s3cret.x=":                      "***",
		"topic=private/orders/7&lastEventId=a1b2-3": "topic=private/orders/7&lastEventId=a1b2-3",
		"event=tokens&end=true":                     "event=tokens&end=true",
		"token":                                     "token",
		"":                                          "",
	} {
		request := requestFor("GET", "/sse", query)
		request.Header.Set("Authorization", "Bearer s3cret")
		request.Header.Set("Cookie", "access_token=s3cret")
		if query != "" {
			want = "?" + want
		}
		line := logged(request, func(*gin.Context) {})
		if !strings.HasSuffix(line, `"/sse`+want+`"`+"\n") || strings.Contains(line, "s3cret") {
			t.Errorf("%s: the log has %q, want %q", query, line, want)
		}
	}
}

func TestAStreamIsLoggedWhenItEndsAndItsRequestIsGarbageByThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log testlog.Log
		var request weak.Pointer[http.Request]
		end := make(chan struct{})
		app := gin.New()
		app.Use(handlers.RequestLog(&log))
		app.GET("/sse", func(c *gin.Context) {
			request = weak.Make(c.Request)
			_ = stream.Detach(c, func(context.Context, *gin.Context) { <-end })
		})
		response, _ := servePipe(t, app)
		time.Sleep(75 * time.Minute)
		synctest.Wait()
		if text := log.String(); text != "" {
			t.Errorf("the log has %q before the end", text)
		}
		for range 3 { // the first two empty the pool of contexts, which keeps the latest requests
			runtime.GC()
		}
		if request.Value() != nil {
			t.Error("the stream keeps the request alive")
		}
		close(end)
		if _, err := io.ReadAll(response.Body); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		want := regexp.MustCompile(`^\[GIN\] ` + time.Now().Format("2006/01/02 - 15:04:05") + ` \| 200 \| +1h15m0s \| +\| GET      "/sse"` + "\n$")
		if !want.MatchString(log.String()) {
			t.Errorf("the log has %q, want %s", log.String(), want)
		}
	})
}
