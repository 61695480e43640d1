package handlers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
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
	"gin-sse/internal/output"
	"gin-sse/internal/stream"
	"gin-sse/internal/testlog"
)

// logger returns a logger that writes text.
func logger(w io.Writer) *slog.Logger { return slog.New(output.Handler(w, "text")) }

// logged serves one request with handle and returns what the log has of it.
func logged(request *http.Request, handle gin.HandlerFunc) string {
	var log bytes.Buffer
	app := gin.New()
	app.Use(handlers.RequestLog(logger(&log)))
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

func TestTheLogHasOneLineForEachRequest(t *testing.T) {
	t.Parallel()
	for status, level := range map[int]string{http.StatusOK: "INFO", http.StatusTeapot: "INFO", http.StatusServiceUnavailable: "WARN"} {
		line := logged(requestFor("GET", "/sse", "topic=news&lastEventId=a-7"), func(c *gin.Context) { c.Status(status) })
		format := regexp.MustCompile(fmt.Sprintf(`^time=\d{4}-\d\d-\d\dT\S+ level=%s msg=request method=GET path="/sse\?topic=news&lastEventId=a-7" status=%d seconds=[0-9.e-]+ client=192\.0\.2\.1`+"\n$", level, status))
		if !format.MatchString(line) {
			t.Errorf("the log has %q", line)
		}
	}
}

// served returns a function that serves a request behind the log.
func served(handler slog.Handler) func() {
	app := gin.New()
	app.Use(handlers.RequestLog(slog.New(handler)))
	app.POST("/sse", func(*gin.Context) {})
	request, answer := requestFor("POST", "/sse", "topic=orders/7"), httptest.NewRecorder()
	return func() { app.ServeHTTP(answer, request) }
}

// Not parallel: it counts allocations. Gin keeps its contexts in a sync.Pool, which may be emptied at any time, and which
// loses some of them on purpose with the race detector. So the least of several counts is what a line costs.
func TestALineThatIsNotWrittenCostsNothing(t *testing.T) {
	serve, least := served(slog.DiscardHandler), math.Inf(1)
	for range 20 {
		least = min(least, testing.AllocsPerRun(100, serve))
	}
	if least > 0 {
		t.Errorf("%v allocations", least)
	}
}

func BenchmarkRequestLog(b *testing.B) {
	serve := served(output.Handler(io.Discard, "text"))
	b.ReportAllocs()
	for b.Loop() {
		serve()
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
	if !strings.Contains(line, ` path=/ status=404 seconds=`) || !strings.HasSuffix(line, ` reason="the first; the\nsecond"`+"\n") {
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
			quoted := `(?:"(?:[^"\\]|\\.)*"|[^ ="]*)`
			if !regexp.MustCompile(`^time=\S+ level=INFO msg=request method=` + quoted + ` path=` + quoted + ` status=404 seconds=\S+ client=192\.0\.2\.1 reason=` + quoted + "\n$").MatchString(line) {
				t.Errorf("%.20q forges the line %.200q", text, line)
			}
		}
	}
}

func TestTextThatIsCutSaysHowLongItWas(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ method, path, want string }{
		{"GET", "/" + strings.Repeat("x", 255), ` method=GET path=/` + strings.Repeat("x", 255) + ` status=`},
		{"GET", "/" + strings.Repeat("x", 3899), ` path="/` + strings.Repeat("x", 255) + `…(3900 bytes)" status=`},
		{"GET", "/" + strings.Repeat("é", 200), ` path="/` + strings.Repeat("é", 127) + `…(401 bytes)" status=`}, // no half letter
		{strings.Repeat("A", 17), "/", ` method="` + strings.Repeat("A", 16) + `…(17 bytes)" path=/ status=`},
	} {
		if line := logged(requestFor(test.method, test.path, ""), func(*gin.Context) {}); !strings.Contains(line, test.want) {
			t.Errorf("the log has %q, want %q", line, test.want)
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
		shown := "/sse" + want
		if strings.Contains(shown, "=") {
			shown = `"` + shown + `"`
		}
		if !strings.Contains(line, " path="+shown+" status=") || strings.Contains(line, "s3cret") {
			t.Errorf("%s: the log has %q, want %q", query, line, want)
		}
	}
}

func TestATokenInAReasonIsNotLogged(t *testing.T) {
	t.Parallel()
	const token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.s3cret-_x"
	for _, query := range []string{token, token + "=x", token + "=x&" + token + "=y", "end=" + token, "topic=" + token + "//", "event=" + token + "!"} {
		var log bytes.Buffer
		app := gin.New()
		app.Use(handlers.RequestLog(logger(&log)))
		app.POST("/sse", handlers.PublishTo(new(batches), 1000))
		request := httptest.NewRequest(http.MethodPost, "/sse?"+query, strings.NewReader("{}"))
		answer := httptest.NewRecorder()
		app.ServeHTTP(answer, request)
		if answer.Code != http.StatusBadRequest || !strings.Contains(log.String(), `reason="The event cannot be published: `) || strings.Contains(log.String(), "s3cret") || strings.Contains(log.String(), "eyJ") {
			t.Errorf("?%s: status %d, and the log has %q", query, answer.Code, log.String())
		}
	}
}

func TestAnAnswerThatAPanicCutsOffHasALine(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	app := gin.New()
	app.Use(handlers.RequestLog(logger(&log)), gin.CustomRecoveryWithWriter(nil, handlers.InternalError))
	app.GET("/", func(c *gin.Context) {
		c.String(http.StatusOK, "begun")
		panic("this one comes in the middle of an answer")
	})
	func() {
		defer func() {
			if reason := recover(); reason != http.ErrAbortHandler { // at which net/http cuts the connection
				t.Errorf("it ends with %v", reason)
			}
		}()
		app.ServeHTTP(httptest.NewRecorder(), requestFor("GET", "/", ""))
	}()
	if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), " path=/ status=200 ") || !strings.HasSuffix(log.String(), ` reason="a panic cut off the answer"`+"\n") {
		t.Errorf("the log has %q", log.String())
	}
}

func TestAStreamIsLoggedWhenItEndsAndItsRequestIsGarbageByThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log testlog.Log
		var request weak.Pointer[http.Request]
		end := make(chan struct{})
		app := gin.New()
		app.Use(handlers.RequestLog(logger(&log)))
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
		want := regexp.MustCompile(`^time=` + time.Now().Format("2006-01-02T15:04:05") + `\S+ level=INFO msg=stream method=GET path=/sse status=200 seconds=4500 client="" ended=complete` + "\n$")
		if !want.MatchString(log.String()) {
			t.Errorf("the log has %q, want %s", log.String(), want)
		}
	})
}
