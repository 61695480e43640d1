package stream_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"

	"gin-sse/internal/stream"
	"gin-sse/internal/testlog"
	"gin-sse/internal/testwait"
)

// errorLog is what package log writes, from all tests.
var errorLog testlog.Log

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	log.SetOutput(&errorLog)
	goleak.VerifyTestMain(m)
}

// host is a server whose streams are in a group.
type host struct {
	t testing.TB
	*httptest.Server
	app      *gin.Engine
	group    *stream.Group
	shutdown func(ctx context.Context) error
}

var http1 = (*httptest.Server).Start

func http2(server *httptest.Server) {
	server.EnableHTTP2 = true
	server.StartTLS()
}

// onEveryProtocol runs a test with each writer that a stream may have: its own on HTTP/1.1, in clear text and
// over TLS, and net/http's on HTTP/2.
func onEveryProtocol(t *testing.T, test func(t *testing.T, start func(*httptest.Server))) {
	for name, start := range map[string]func(*httptest.Server){
		"HTTP1": http1, "HTTP1 over TLS": (*httptest.Server).StartTLS, "HTTP2": http2,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start)
		})
	}
}

// serve runs a server until the test ends, with send as the stream at /.
func serve(t testing.TB, start func(*httptest.Server), send func(ctx context.Context, c *gin.Context), middleware ...gin.HandlerFunc) *host {
	h := &host{t: t, app: gin.New(), group: stream.NewGroup()}
	h.shutdown = h.group.Shutdown
	h.app.Use(middleware...)
	h.app.GET("/", func(c *gin.Context) {
		c.Header("Content-Type", "text/event-stream")
		c.Header("Connection", "keep-alive")
		_ = stream.Detach(c, send)
	})
	h.Server = httptest.NewUnstartedServer(h.app)
	h.Config.BaseContext = func(net.Listener) context.Context { return h.group.Context() }
	h.Config.ErrorLog = log.New(&errorLog, "", 0)
	start(h.Server)
	h.Client().Timeout = testwait.Limit // also for the body
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testwait.Limit)
		defer cancel()
		h.group.Stop()
		h.Close()
		if err := h.shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return h
}

// shut ends the group before the test does.
func (h *host) shut(ctx context.Context) error {
	h.shutdown = func(context.Context) error { return nil }
	return h.group.Shutdown(ctx)
}

// get opens the stream. Its body is closed when the test ends.
func (h *host) get(path string) *http.Response {
	h.t.Helper()
	response, err := h.Client().Get(h.URL + path)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { response.Body.Close() })
	return response
}

// raw sends bytes as they are and returns the connection, which is closed when the test ends.
func (h *host) raw(text string) *net.TCPConn {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.Listener.Addr().String())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(testwait.Limit)); err != nil {
		h.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		h.t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// readHead reads the head of an answer as it is on the wire, past what an HTTP client would tidy up, and returns
// its lines without the date, in alphabetical order.
func readHead(t *testing.T, wire *bufio.Reader) (head []string) {
	t.Helper()
	for {
		line, err := wire.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line = strings.TrimSuffix(line, "\r\n"); line == "" {
			slices.Sort(head)
			return head
		}
		if !strings.HasPrefix(line, "Date: ") {
			head = append(head, line)
		}
	}
}

// untilDone is a stream that says hello and then waits for its end.
func untilDone(ctx context.Context, c *gin.Context) {
	c.String(http.StatusOK, "hello")
	c.Writer.Flush()
	<-ctx.Done()
}

// say returns a stream that sends each text by itself and then ends.
func say(texts ...string) func(context.Context, *gin.Context) {
	return func(_ context.Context, c *gin.Context) {
		for _, text := range texts {
			_, _ = c.Writer.WriteString(text)
			c.Writer.Flush()
		}
	}
}

func TestWhatIsWrittenArrivesWhole(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, start func(*httptest.Server)) {
		for seed := range uint64(20) {
			random := rand.New(rand.NewPCG(1, seed))
			var want bytes.Buffer
			var pieces [][]byte
			for range 50 {
				piece := bytes.Repeat([]byte{byte('a' + random.IntN(26))}, []int{0, 1, 10, 1000, 4095, 4096, 4097, 70_000, 200_000}[random.IntN(9)])
				pieces = append(pieces, piece)
				want.Write(piece)
			}
			h := serve(t, start, func(_ context.Context, c *gin.Context) {
				for i, piece := range pieces {
					if n, err := c.Writer.Write(piece); n != len(piece) || err != nil {
						t.Errorf("%d of %d bytes are written, and the error is %v", n, len(piece), err)
					}
					if i%3 == 0 {
						c.Writer.Flush()
					}
				}
				if c.Writer.Size() != want.Len() || c.Writer.Status() != http.StatusOK || !c.Writer.Written() {
					t.Errorf("the writer tells of %d bytes with status %d, want %d and 200", c.Writer.Size(), c.Writer.Status(), want.Len())
				}
			})
			if got, err := io.ReadAll(h.get("/").Body); err != nil || !bytes.Equal(got, want.Bytes()) {
				t.Errorf("%d bytes came, and error %v; want the %d bytes that were written", len(got), err, want.Len())
			}
		}
	})
}

func TestGinsOwnMethodsWriteToTheStream(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, start func(*httptest.Server)) {
		h := serve(t, start, func(_ context.Context, c *gin.Context) {
			n := 0
			c.Stream(func(io.Writer) bool {
				n++
				c.SSEvent("", gin.H{"n": n})
				return n < 3
			})
		})
		if text, err := io.ReadAll(h.get("/").Body); err != nil || string(text) != "data:{\"n\":1}\n\ndata:{\"n\":2}\n\ndata:{\"n\":3}\n\n" {
			t.Errorf("the stream has %q and error %v", text, err)
		}
	})
}

func TestHTTP10ClientHasAStreamWithoutChunksUntilTheConnectionIsClosed(t *testing.T) {
	t.Parallel()
	for _, header := range []string{"", "Connection: keep-alive\r\n"} {
		h := serve(t, http1, say("hello ", strings.Repeat("x", 100_000)))
		wire := bufio.NewReader(h.raw("GET / HTTP/1.0\r\n" + header + "\r\n"))
		if head, want := readHead(t, wire), []string{"Content-Type: text/event-stream", "HTTP/1.0 200 OK"}; !slices.Equal(head, want) {
			t.Errorf("head %q, want %q", head, want)
		}
		if body, err := io.ReadAll(wire); err != nil || string(body) != "hello "+strings.Repeat("x", 100_000) {
			t.Errorf("body %.20q of %d bytes, and error %v", body, len(body), err)
		}
	}
}

// The answer to each is what net/http alone would have sent.
func TestHeadOfAStreamIsAsNetHTTPWouldSendIt(t *testing.T) {
	t.Parallel()
	set := func(c *gin.Context) {
		c.Header("Vary", "Origin")
		c.Writer.Header().Add("Vary", "Accept")
		c.Header("X-Forged", "a\r\nX-Other: b")
		http.SetCookie(c.Writer, &http.Cookie{Name: "session", Value: "1"})
		c.Status(http.StatusAccepted)
	}
	h := serve(t, http1, untilDone, set)
	app := gin.New()
	app.GET("/", set, func(c *gin.Context) {
		c.Header("Content-Type", "text/event-stream")
		c.Header("Connection", "keep-alive")
		c.Writer.Flush()
	})
	plain := httptest.NewServer(app)
	defer plain.Close()
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
		"GET / HTTP/1.0\r\n\r\n",
		"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	} {
		var heads [2][]string
		for i, server := range []*host{h, {t: t, Server: plain}} {
			heads[i] = readHead(t, bufio.NewReader(server.raw(request)))
		}
		if !slices.Equal(heads[0], heads[1]) {
			t.Errorf("%q is answered with %q, by net/http with %q", request, heads[0], heads[1])
		}
	}
}

func TestStreamAfterOtherRequestsAndBeforeMoreBytesHasItsEnd(t *testing.T) {
	t.Parallel()
	h := serve(t, http1, func(ctx context.Context, c *gin.Context) {
		untilDone(ctx, c)
		_, _ = c.Writer.WriteString(strings.Repeat("x", 100_000))
	})
	conn := h.raw("")
	wire := bufio.NewReader(conn)
	for range 3 {
		fmt.Fprint(conn, "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
		response, err := http.ReadResponse(wire, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusNotFound {
			t.Fatalf("status %d and error %v", response.StatusCode, err)
		}
	}
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
	response, err := http.ReadResponse(wire, nil)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, strings.Repeat("more", 1000))
	if err := h.shut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(response.Body); err != nil || len(body) != len("hello")+100_000 {
		t.Errorf("the stream ended with %v after %d bytes", err, len(body))
	}
	if rest, err := io.ReadAll(wire); err != nil || len(rest) > 0 {
		t.Errorf("after the stream there is %q and error %v, want the end of the connection", rest, err)
	}
}

func TestBodyOfTheRequestIsDiscarded(t *testing.T) {
	t.Parallel()
	h := serve(t, http1, say("hello"))
	const head = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
	for _, test := range []struct {
		name, request string
		status        int
		typ, body     string
	}{
		{"none", head + "\r\n", 200, "text/event-stream", "hello"},
		{"short", head + "Content-Length: 5\r\n\r\nbytes", 200, "text/event-stream", "hello"},
		{"chunked", head + "Transfer-Encoding: chunked\r\n\r\n5\r\nbytes\r\n0\r\n\r\n", 200, "text/event-stream", "hello"},
		{"at the limit", head + "Content-Length: 65536\r\n\r\n" + strings.Repeat("x", 65536), 200, "text/event-stream", "hello"},
		{"too large", head + "Content-Length: 65537\r\n\r\n" + strings.Repeat("x", 65537), 400, "application/json; charset=utf-8", `{"error":"A request for a stream must not have a body."}`},
		{"broken", head + "Transfer-Encoding: chunked\r\n\r\nno number\r\n", 400, "application/json; charset=utf-8", `{"error":"A request for a stream must not have a body."}`},
	} {
		response, err := http.ReadResponse(bufio.NewReader(h.raw(test.request)), nil)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != test.status || string(body) != test.body || response.Header.Get("Content-Type") != test.typ {
			t.Errorf("%s: status %d, type %q, body %q, error %v; want %d, %q, %q", test.name, response.StatusCode,
				response.Header.Get("Content-Type"), body, err, test.status, test.typ, test.body)
		}
	}
}

func TestPanicEndsItsStreamAloneAndIsLogged(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, start func(*httptest.Server)) {
		var streams atomic.Int32
		last := make(chan struct{})
		reason := "panic of " + t.Name()
		h := serve(t, start, func(ctx context.Context, c *gin.Context) {
			if streams.Add(1) == 1 {
				untilDone(ctx, c)
				return
			}
			say("begun")(ctx, c)
			<-last
			panic(reason)
		})
		beside := h.get("/")
		if _, err := io.ReadFull(beside.Body, make([]byte, len("hello"))); err != nil { // so that it is the first one
			t.Fatal(err)
		}
		response := h.get("/")
		if _, err := io.ReadFull(response.Body, make([]byte, len("begun"))); err != nil {
			t.Fatal(err)
		}
		close(last)
		if rest, err := io.ReadAll(response.Body); err == nil || len(rest) > 0 {
			t.Errorf("after a panic: %q and no error, want it cut off", rest)
		}
		errorLog.Wait(t, reason)
		go h.group.Stop()
		if text, err := io.ReadAll(beside.Body); err != nil || len(text) > 0 {
			t.Errorf("the stream beside it has %q and error %v", text, err)
		}
	})
}

func TestAtEndCallsOnceWhenTheAnswerIsComplete(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		waits      bool
		panics     bool
		middleware gin.HandlerFunc
	}{
		"a stream that ends":                        {waits: true},
		"a stream that panics":                      {waits: true, panics: true},
		"a stream that ends before the middleware":  {},
		"an answer that is no stream":               {middleware: func(c *gin.Context) { c.AbortWithStatus(http.StatusTeapot) }},
		"a stream behind a writer without a Hijack": {middleware: func(c *gin.Context) { c.Writer = noHijack{c.Writer} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			called, ending := make(chan struct{}), make(chan struct{})
			middleware := []gin.HandlerFunc{func(c *gin.Context) {
				defer stream.AtEnd(c, func(stream.End) {
					if calls.Add(1) == 1 {
						close(called)
					}
				})
				c.Next()
			}}
			if test.middleware != nil {
				middleware = append(middleware, test.middleware)
			}
			h := serve(t, http1, func(_ context.Context, c *gin.Context) {
				if test.waits {
					<-ending
				}
				if test.panics {
					panic("an intended one")
				}
			}, middleware...)
			body := h.get("/").Body
			if n := calls.Load(); test.waits && n != 0 {
				t.Errorf("called %d times while the stream is open", n)
			}
			close(ending)
			_, _ = io.ReadAll(body)
			testwait.Closed(t, "the call at the end", called)
			if err := h.shut(t.Context()); err != nil {
				t.Error(err)
			}
			if n := calls.Load(); n != 1 {
				t.Errorf("called %d times", n)
			}
		})
	}
}

func (w noUnwrap) Write(p []byte) (int, error)       { return w.zip.Write(p) }
func (w noUnwrap) WriteString(s string) (int, error) { return w.zip.Write([]byte(s)) }

func compress(c *gin.Context) {
	w := noUnwrap{c.Writer, gzip.NewWriter(c.Writer)}
	c.Writer = w
	c.Header("Content-Encoding", "gzip")
	c.Next()
	w.zip.Close()
}

// noHijack does not let go of its connection, and has no method Unwrap.
type noHijack struct{ gin.ResponseWriter }

func (noHijack) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New("this writer keeps its connection")
}

// unwrapping has the method. Streams do without its Write, so it may set deadlines there that would end a silent stream.
type unwrapping struct{ gin.ResponseWriter }

func (unwrapping) Write([]byte) (int, error) { return 0, errors.New("this is no writer for streams") }

func (w unwrapping) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestBehindAnyMiddlewareAStreamRunsOrFailsWithAStatusAndAReason(t *testing.T) {
	t.Parallel()
	wrap := func(wrapper func(w gin.ResponseWriter) gin.ResponseWriter) gin.HandlerFunc {
		return func(c *gin.Context) { c.Writer = wrapper(c.Writer) }
	}
	keeps := wrap(func(w gin.ResponseWriter) gin.ResponseWriter { return noHijack{w} })
	plain := wrap(func(w gin.ResponseWriter) gin.ResponseWriter { return unwrapping{w} })
	for _, test := range []struct {
		name       string
		start      func(*httptest.Server)
		middleware gin.HandlerFunc
		reason     string // for the log, if it fails
	}{
		{"compressing, HTTP1", http1, compress, ""},
		{"compressing, HTTP2", http2, compress, "stream_test.noUnwrap, which may lack the method Unwrap"},
		{"without a Hijack, HTTP1", http1, keeps, "this writer keeps its connection"},
		{"without a Hijack, HTTP2", http2, keeps, "stream_test.noHijack, which may lack the method Unwrap"},
		{"with Unwrap, HTTP1", http1, plain, ""},
		{"with Unwrap, HTTP2", http2, plain, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			logged := make(chan string, 1)
			h := serve(t, test.start, say("hello"), func(c *gin.Context) {
				c.Next()
				logged <- c.Errors.String()
			}, test.middleware)
			response := h.get("/")
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if response.Uncompressed { // the client asked for gzip by itself, and read it
				response.Header.Set("Content-Encoding", "gzip")
			}
			switch reason := <-logged; {
			case test.reason == "" && (reason != "" || response.StatusCode != http.StatusOK || string(body) != "hello" || response.Header.Get("Content-Encoding") != ""):
				t.Errorf("status %d, body %q, encoding %q, and the log says %q", response.StatusCode, body, response.Header.Get("Content-Encoding"), reason)
			case !strings.Contains(reason, test.reason):
				t.Errorf("the log says %q, want %q", reason, test.reason)
			case test.reason != "" && (response.StatusCode != http.StatusInternalServerError || string(body) != `{"error":"This server cannot stream."}`):
				t.Errorf("status %d, body %q", response.StatusCode, body)
			}
		})
	}
}

func TestFunctionThatIgnoresErrorsEndsAfterTheClientLeft(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, start func(*httptest.Server)) {
		ended := make(chan struct{})
		h := serve(t, start, func(_ context.Context, c *gin.Context) {
			defer close(ended)
			c.Stream(func(w io.Writer) bool {
				_, _ = io.WriteString(w, "more")
				return true
			})
		})
		response := h.get("/")
		if _, err := io.ReadFull(response.Body, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		testwait.Closed(t, "the end of the function", ended)
	})
}

func TestStreamEndsAtTheDeadlineOfItsRequest(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, start func(*httptest.Server)) {
		send := func(ctx context.Context, c *gin.Context) {
			untilDone(ctx, c)
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				t.Errorf("the context of the stream ended with %v", ctx.Err())
			}
		}
		h := serve(t, start, send, func(c *gin.Context) {
			ctx, cancel := context.WithTimeout(c.Request.Context(), 100*time.Millisecond)
			defer cancel() // when the handler returns, which may be long before the deadline
			c.Request = c.Request.WithContext(ctx)
			c.Next()
		})
		begin := time.Now()
		if text, err := io.ReadAll(h.get("/").Body); err != nil || string(text) != "hello" || time.Since(begin) < 100*time.Millisecond {
			t.Errorf("after %v the stream has %q and error %v", time.Since(begin), text, err)
		}
	})
}

func TestFirstWriteThatFailsEndsTheContext(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10, 10_000} { // one waits for a Flush, the other is sent at once
		ended, next := make(chan struct{}), make(chan struct{})
		h := serve(t, http1, func(ctx context.Context, c *gin.Context) {
			defer close(ended)
			for range next {
				_, _ = c.Writer.Write(make([]byte, size))
				c.Writer.Flush()
				if ctx.Err() != nil {
					return
				}
			}
		})
		response := h.get("/")
		next <- struct{}{}
		if _, err := io.ReadFull(response.Body, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		for open := true; open; {
			select {
			case next <- struct{}{}:
			case <-ended:
				open = false
			case <-time.After(testwait.Limit):
				t.Fatal("the function has not learned that its client left")
			}
		}
	}
}

func TestWaitingStreamKeepsNothingOfItsRequestAlive(t *testing.T) {
	t.Parallel()
	var request weak.Pointer[http.Request]
	collected := make(chan struct{})
	h := serve(t, http1, untilDone, func(c *gin.Context) {
		request = weak.Make(c.Request)
		// The context of another request may be this one again, so give it something of this request alone.
		text := new([64]byte)
		c.Set("text", text)
		runtime.AddCleanup(text, func(struct{}) { close(collected) }, struct{}{})
		c.Next()
		stream.AtEnd(c, func(stream.End) {})
	})
	body := h.get("/").Body
	if _, err := io.ReadFull(body, make([]byte, len("hello"))); err != nil {
		t.Fatal(err)
	}
	testwait.Until(t, func() string {
		// Gin resets a context of its pool when that is used again, so empty the pool.
		runtime.GC()
		if request.Value() != nil {
			return "the stream keeps the request alive"
		}
		select {
		case <-collected:
			return ""
		default:
			return "the stream keeps Gin's context alive"
		}
	})
}

// hijacked tells which buffers net/http had for a connection.
type hijacked struct {
	gin.ResponseWriter
	reader *weak.Pointer[bufio.Reader]
	writer *weak.Pointer[bufio.Writer]
}

func (w hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := w.ResponseWriter.Hijack()
	if err == nil {
		*w.reader, *w.writer = weak.Make(buffers.Reader), weak.Make(buffers.Writer)
	}
	return conn, buffers, err
}

// They are 8 KB, as much as the rest of a waiting client. A stream must not reach into them: they are net/http's.
func TestWaitingStreamKeepsNoBufferOfNetHTTPAlive(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*httptest.Server){"HTTP1": http1, "HTTP1 over TLS": (*httptest.Server).StartTLS} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var reader weak.Pointer[bufio.Reader]
			var writer weak.Pointer[bufio.Writer]
			h := serve(t, start, untilDone, func(c *gin.Context) {
				c.Writer = hijacked{c.Writer, &reader, &writer}
			})
			if _, err := io.ReadFull(h.get("/").Body, make([]byte, len("hello"))); err != nil {
				t.Fatal(err)
			}
			testwait.Until(t, func() string {
				runtime.GC()
				if reader.Value() != nil || writer.Value() != nil {
					return "a buffer is alive"
				}
				return ""
			})
		})
	}
}

func TestWriterOfAStreamRefusesWhatIsOver(t *testing.T) {
	t.Parallel()
	h := serve(t, http1, func(_ context.Context, c *gin.Context) {
		c.Header("X-Late", "yes")
		c.Status(http.StatusTeapot)
		c.Writer.WriteHeaderNow()
		_, _, err := c.Writer.Hijack()
		if err == nil || c.Writer.Status() != http.StatusOK || c.Writer.Pusher() != nil {
			t.Errorf("Hijack's error is %v, the status %d", err, c.Writer.Status())
		}
		_, _ = c.Writer.WriteString("hello")
	})
	response := h.get("/")
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "hello" || response.Header.Get("X-Late") != "" || response.StatusCode != http.StatusOK {
		t.Errorf("status %d, header %v, body %q, error %v", response.StatusCode, response.Header, body, err)
	}
}
