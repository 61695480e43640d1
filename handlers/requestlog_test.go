package handlers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
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
	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
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

func TestEachKindOfRequestIsAnObjectOfJSONAndARefusedOneHasItsReason(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, handlers.Options{SubscribeKeys: handlers.Secrets(subscribeKey), MaxClients: 2, MaxEventBytes: 100}, func(s *site) {
			s.logFormat, s.origins = "json", []string{"https://shop.example"}
		})
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
		if lines := s.out.Lines(`"msg":"stream"`); len(lines) > 0 {
			t.Errorf("while the streams are open, the log has %q", lines)
		}
		s.close()
		second.WantsRest("1")
		s.out.WaitFor(t, `"msg":"stream"`, 3, testwait.Limit)
		ended := map[string]map[string]any{}
		for _, line := range s.out.Lines(`"msg":"stream"`) {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if fields["ended"] != "complete" && fields["ended"] != "stopped" {
				t.Errorf("the stream ended as %v", fields["ended"])
			}
			for _, varies := range []string{"time", "seconds", "ended"} {
				delete(fields, varies)
			}
			ended[fields["topics"].(string)] = fields
		}
		stream := func(more map[string]any) map[string]any {
			fields := map[string]any{"level": "INFO", "msg": "stream", "method": "GET", "path": "/sse", "status": 200.0, "client": "127.0.0.1"}
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
		for _, publishToken := range []string{publishToken, "wr0ng", "s3cr3t", subscribeKey, alice.Get("Authorization")[20:]} {
			if strings.Contains(s.out.String(), publishToken) {
				t.Errorf("the log has a secret: %s", s.out.String())
			}
		}
	})
}

func TestALineSaysWhyAStreamEnded(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, handlers.Options{SubscribeKeys: handlers.Secrets(subscribeKey)})
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
