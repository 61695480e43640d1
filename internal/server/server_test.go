package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"

	"gin-sse/internal/stream"
	"gin-sse/internal/testcert"
	"gin-sse/internal/testlog"
)

// errorLog is what package log writes, from all tests.
var errorLog testlog.Log

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	log.SetOutput(&errorLog)
	goleak.VerifyTestMain(m)
}

// streams answers every request with a stream that says hello and good-bye.
func streams() http.Handler {
	app := gin.New()
	app.NoRoute(func(c *gin.Context) {
		c.Status(http.StatusOK)
		_ = stream.Detach(c, func(ctx context.Context, c *gin.Context) {
			_, _ = c.Writer.WriteString("hello")
			c.Writer.Flush()
			<-ctx.Done()
			_, _ = c.Writer.WriteString(", and good-bye")
		})
	})
	return app
}

// pipes is a listener whose connections are within the process, as time in a bubble is not for real ones.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() pipes { return pipes{make(chan net.Conn), make(chan struct{})} }

func (p pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error   { close(p.closed); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial returns a connection to the listener.
func (p pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// serving runs a server in the test's bubble. The function stops it, and returns how long that took.
func serving(t *testing.T, handler http.Handler, onStop func()) (port pipes, stop func() time.Duration) {
	port = newPipes()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, port, Config{HTTP2: true}, handler, onStop) }()
	return port, func() time.Duration {
		begin := time.Now()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		return time.Since(begin)
	}
}

// client asks over a listener's connections, one for all requests on HTTP/2, and one for each on HTTP/1.1.
func client(port pipes, set func(*http.Protocols, bool)) *http.Client {
	transport := &http.Transport{
		Protocols:   new(http.Protocols),
		DialContext: func(context.Context, string, string) (net.Conn, error) { return port.dial(), nil },
	}
	set(transport.Protocols, true)
	return &http.Client{Transport: transport}
}

func TestStopEndsEveryStreamAndDoesNotWaitForConnectionsThatSentNothing(t *testing.T) {
	for name, set := range map[string]func(*http.Protocols, bool){
		"HTTP1": (*http.Protocols).SetHTTP1,
		"HTTP2": (*http.Protocols).SetUnencryptedHTTP2,
	} {
		t.Run(name, func(t *testing.T) {
			before := len(errorLog.Lines("cut off"))
			synctest.Test(t, func(t *testing.T) {
				const open = 1000
				port, stop := serving(t, streams(), func() {})
				client := client(port, set)
				defer client.CloseIdleConnections()
				ended := make(chan string, open)
				for range open {
					response, err := client.Get("http://localhost/")
					if err != nil {
						t.Fatal(err)
					}
					go func() {
						text, err := io.ReadAll(response.Body)
						ended <- fmt.Sprintf("%s %v", text, err)
					}()
				}
				var silent []net.Conn
				for range 100 {
					silent = append(silent, port.dial())
				}
				if _, err := io.WriteString(silent[0], "GET / HTTP/1.1\r\nHost: "); err != nil { // not a whole request
					t.Fatal(err)
				}
				synctest.Wait()
				if took := stop(); took >= stopTimeout {
					t.Errorf("the stop took %v", took)
				}
				for range open {
					if got := <-ended; got != "hello, and good-bye <nil>" {
						t.Errorf("a stream ended with %q", got)
					}
				}
				for _, conn := range silent {
					if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
						t.Errorf("a connection that sent nothing ended with %v", err)
					}
				}
			})
			if after := errorLog.Lines("cut off"); len(after) > before {
				t.Errorf("the log has %q", after[before:])
			}
		})
	}
}

// open is a listener that accepts connections after it was closed, as one that was about to be accepted then.
type open struct{ pipes }

func (open) Close() error { return nil }

func TestBeforeItStopsTheServerGoesOnForItsDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		port := newPipes()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- serve(ctx, port, Config{Delay: 10 * time.Second}, streams(), func() {}) }()
		client := client(port, (*http.Protocols).SetHTTP1)
		defer client.CloseIdleConnections()
		begin := time.Now()
		cancel()
		time.Sleep(9 * time.Second) // of the bubble
		response, err := client.Get("http://localhost/")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		if took := time.Since(begin); err != nil || string(text) != "hello, and good-bye" || took != 10*time.Second {
			t.Errorf("a client that came during the delay got %q with %v after %v", text, err, took)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestConnectionThatIsAcceptedDuringTheStopDoesNotDelayIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		port := open{newPipes()}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		var late net.Conn
		go func() {
			ended <- serve(ctx, port, Config{HTTP2: true}, streams(), func() {
				late = port.dial()
				close(port.closed)
			})
		}()
		defer port.dial().Close()
		begin := time.Now()
		cancel()
		if err := <-ended; err != nil || time.Since(begin) >= stopTimeout {
			t.Errorf("the stop took %v: %v", time.Since(begin), err)
		}
		if _, err := late.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the connection ended with %v", err)
		}
	})
}

func TestStopCutsOffAClientThatTakesNothingAfterAWhile(t *testing.T) {
	before := len(errorLog.Lines("cut off"))
	synctest.Test(t, func(t *testing.T) {
		port, stop := serving(t, streams(), func() {})
		conn := port.dial()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if took := stop(); took != stopTimeout {
			t.Errorf("the stop took %v, want %v", took, stopTimeout)
		}
		conn.Close()
		synctest.Wait()
	})
	if after := errorLog.Lines("cut off"); len(after) != before+1 {
		t.Errorf("the log has %q", after[before:])
	}
}

func TestWhatIsSentOnTheStopReachesTheClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last sync.Map // what the stop says, and nothing before
		app := gin.New()
		app.NoRoute(func(c *gin.Context) {
			c.Status(http.StatusOK)
			_ = stream.Detach(c, func(ctx context.Context, c *gin.Context) {
				<-ctx.Done()
				_, said := last.Load("said")
				c.String(http.StatusOK, "%t", said)
			})
		})
		port, stop := serving(t, app, func() {
			time.Sleep(stopTimeout / 2) // in which everything else that a stop does is over
			last.Store("said", true)
		})
		client := client(port, (*http.Protocols).SetHTTP1)
		response, err := client.Get("http://localhost/")
		if err != nil {
			t.Fatal(err)
		}
		text := make(chan string, 1)
		go func() {
			all, err := io.ReadAll(response.Body)
			text <- fmt.Sprintf("%s %v", all, err)
		}()
		stop()
		if got := <-text; got != "true <nil>" {
			t.Errorf("the stream ended before onStop had returned: %q", got)
		}
	})
}

// On HTTP/2 a write deadline that is left behind ends the stream, even if nothing is being written.
func TestSilentStreamStaysOpenForAnyTime(t *testing.T) {
	for name, set := range map[string]func(*http.Protocols, bool){
		"HTTP1": (*http.Protocols).SetHTTP1,
		"HTTP2": (*http.Protocols).SetUnencryptedHTTP2,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				app := gin.New()
				app.NoRoute(func(c *gin.Context) {
					c.Status(http.StatusOK)
					_ = stream.Detach(c, func(_ context.Context, c *gin.Context) {
						for _, silence := range []time.Duration{time.Minute, 0, 14 * time.Second, 24 * time.Hour} {
							time.Sleep(silence)
							_, _ = c.Writer.WriteString("more")
							c.Writer.Flush()
						}
						time.Sleep(time.Hour)
					})
				})
				port, stop := serving(t, app, func() {})
				client := client(port, set)
				response, err := client.Get("http://localhost/")
				if err != nil {
					t.Fatal(err)
				}
				if text, err := io.ReadAll(response.Body); err != nil || string(text) != "moremoremoremore" {
					t.Errorf("the stream has %q and error %v", text, err)
				}
				client.CloseIdleConnections()
				stop()
			})
		})
	}
}

func TestUnreadHTTP2StreamIsCutOffAndItsNeighbourOnTheConnectionGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cut := make(chan time.Duration, 1)
		mux := http.NewServeMux()
		mux.Handle("/", streams())
		app := gin.New()
		app.GET("/much", func(c *gin.Context) {
			_ = stream.Detach(c, func(ctx context.Context, c *gin.Context) {
				begin := time.Now()
				for err := error(nil); err == nil; {
					_, err = c.Writer.Write(make([]byte, 64<<10))
					c.Writer.Flush()
				}
				cut <- time.Since(begin)
			})
		})
		mux.Handle("/much", app)
		port, stop := serving(t, mux, func() {})
		client := client(port, (*http.Protocols).SetUnencryptedHTTP2)
		defer client.CloseIdleConnections()
		unread, err := client.Get("http://localhost/much")
		if err != nil {
			t.Fatal(err)
		}
		neighbour, err := client.Get("http://localhost/")
		if err != nil {
			t.Fatal(err)
		}
		select {
		case took := <-cut:
			if took < 10*time.Second || took > 14*time.Second {
				t.Errorf("the stream is cut off after %v", took)
			}
		case <-time.After(time.Minute):
			t.Error("the stream is not cut off")
			unread.Body.Close()
		}
		if _, err := io.ReadAll(unread.Body); err == nil {
			t.Error("its client takes it for a proper end")
		}
		ended := make(chan string, 1)
		go func() {
			text, err := io.ReadAll(neighbour.Body)
			ended <- fmt.Sprintf("%s %v", text, err)
		}()
		stop()
		if got := <-ended; got != "hello, and good-bye <nil>" {
			t.Errorf("its neighbour ended with %q", got)
		}
	})
}

// A client whose machine is gone answers no ping.
func TestHTTP2ClientThatVanishesIsCutOffWithItsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		port, stop := serving(t, streams(), func() {})
		conn := port.dial()
		begin := time.Now()
		// SETTINGS, and HEADERS of GET http:///, which end the request
		go func() {
			_, _ = io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x03\x01\x05\x00\x00\x00\x01\x82\x86\x84")
		}()
		if sent, _ := io.ReadAll(conn); !bytes.Contains(sent, []byte("hello")) || time.Since(begin) > 50*time.Second {
			t.Errorf("it is cut off after %v, and %q", time.Since(begin), sent)
		}
		conn.Close()
		stop()
	})
}

// run runs a server until the test ends, and returns its address.
func run(t *testing.T, cfg Config, handler http.Handler) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	port, err := Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- port.Serve(ctx, handler, func() {}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return port.URL()
}

func TestAddressIsWhereABrowserFindsTheServer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "http://localhost:3000"},
		{Config{Host: "0.0.0.0"}, "http://localhost:3000"},
		{Config{Host: "::"}, "http://localhost:3000"},
		{Config{Host: "127.0.0.1"}, "http://127.0.0.1:3000"},
		{Config{Host: "::1"}, "http://[::1]:3000"},
		{Config{Host: "example.com", CertFile: "cert.pem"}, "https://example.com:3000"},
	} {
		if got := address(test.cfg, 3000); got != test.want {
			t.Errorf("%+v: %s, want %s", test.cfg, got, test.want)
		}
	}
}

func TestHealthCheckFindsTheServerWithoutANameService(t *testing.T) {
	t.Parallel()
	cert, key, _ := testcert.Write(t) // for localhost, not for these addresses
	for _, cfg := range []Config{
		{}, {Host: "0.0.0.0"}, {Host: "127.0.0.1"}, {Host: "127.0.0.2"}, {Host: "::"}, {Host: "::1"},
		{CertFile: cert, KeyFile: key}, {Host: "127.0.0.2", CertFile: cert, KeyFile: key},
	} {
		if strings.Contains(cfg.Host, ":") || cfg.Host == "127.0.0.2" {
			probe, err := net.Listen("tcp", net.JoinHostPort(cfg.Host, "0"))
			if err != nil {
				t.Logf("this machine has no %s", cfg.Host)
				continue
			}
			probe.Close()
		}
		mux := http.NewServeMux()
		mux.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {})
		mux.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		url := run(t, cfg, mux)
		if _, err := fmt.Sscanf(url[strings.LastIndex(url, ":")+1:], "%d", &cfg.Port); err != nil {
			t.Fatal(err)
		}
		if err := CheckHealth(cfg, "/healthz"); err != nil {
			t.Errorf("%+v: %v", cfg, err)
		}
		if err := CheckHealth(cfg, "/readyz"); err == nil || err.Error() != "health check: the server answers 503 Service Unavailable" {
			t.Errorf("%+v: error %v for an answer that is not 200", cfg, err)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(taken.Addr().(*net.TCPAddr).Port)
	taken.Close()
	if err := CheckHealth(Config{Host: "127.0.0.1", Port: port}, "/healthz"); err == nil || !strings.HasPrefix(err.Error(), "health check: ") {
		t.Errorf("error %v without a server", err)
	}
}

func TestPortThatCannotBeOpenedIsExplained(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := uint16(taken.Addr().(*net.TCPAddr).Port)
	for _, test := range []struct {
		cfg  Config
		want string
	}{
		{Config{Host: "127.0.0.1", Port: port}, fmt.Sprintf("port %d is taken by another program: stop that one, or choose another port, such as PORT=%d", port, port+1)},
		{Config{Host: "203.0.113.1"}, `cannot listen on HOST="203.0.113.1": it accepts an address or a name of this machine, or nothing for all: `},
		{Config{Host: "no such host"}, `cannot listen on HOST="no such host": it accepts an address or a name of this machine, or nothing for all: `},
	} {
		_, err := Open(t.Context(), test.cfg)
		if err == nil || !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: error %v, want %s", test.cfg, err, test.want)
		}
	}
}

func TestHTTP2CanBeTurnedOff(t *testing.T) {
	t.Parallel()
	cert, key, pool := testcert.Write(t)
	for _, test := range []struct {
		http2     bool
		encrypted []string // what a browser chooses first
		clear     string   // the answer to the beginning of h2c
	}{
		{true, []string{"h2", "HTTP/2.0"}, "\x00\x00"},
		{false, []string{"http/1.1", "HTTP/1.1"}, "HTTP/1.1 "},
	} {
		echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })
		url := run(t, Config{Host: "127.0.0.1", CertFile: cert, KeyFile: key, HTTP2: test.http2}, echo)
		browser := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}}
		response, err := (&http.Client{Transport: browser}).Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		browser.CloseIdleConnections()
		if got := []string{response.TLS.NegotiatedProtocol, string(body)}; err != nil || !slices.Equal(got, test.encrypted) {
			t.Errorf("HTTP2 is %t: over TLS %q and error %v, want %q", test.http2, got, err, test.encrypted)
		}

		_, address, _ := strings.Cut(run(t, Config{Host: "127.0.0.1", HTTP2: test.http2}, echo), "://")
		proxy, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer proxy.Close()
		fmt.Fprint(proxy, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
		answer := make([]byte, len(test.clear))
		if _, err := io.ReadFull(proxy, answer); err != nil || string(answer) != test.clear {
			t.Errorf("HTTP2 is %t: without TLS %q and error %v, want %q", test.http2, answer, err, test.clear)
		}
	}
}

func TestHeadersHaveALimit(t *testing.T) {
	t.Parallel()
	_, address, _ := strings.Cut(run(t, Config{Host: "127.0.0.1"}, http.NotFoundHandler()), "://")
	for size, status := range map[int]int{60 << 10: 404, 66 << 10: 431} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HEAD / HTTP/1.1\r\nHost: localhost\r\nX-Big: %s\r\n\r\n", strings.Repeat("x", size))
		if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(line, fmt.Sprintf("HTTP/1.1 %d ", status)) {
			t.Errorf("headers of %d bytes: %q and error %v, want status %d", size, line, err, status)
		}
	}
}

func TestRequestThatDoesNotArriveInTimeIsCutOff(t *testing.T) {
	for name, begun := range map[string]string{
		"nothing":                  "",
		"half of its head":         "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
		"a stream without a body":  "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n",
		"half of a chunk":          "GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
		"half of an HTTP2 request": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82", // SETTINGS, and HEADERS with more to come
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				port, stop := serving(t, streams(), func() {})
				conn := port.dial()
				begin := time.Now()
				go func() { _, _ = io.WriteString(conn, begun) }()
				_, _ = io.Copy(io.Discard, conn)
				if took := time.Since(begin); took > 50*time.Second {
					t.Errorf("it is cut off after %v", took)
				}
				conn.Close()
				stop()
			})
		})
	}
}

// twoRequests sends two requests over one HTTP/2 connection before it has read anything. The second one refers to the header
// X-Name of the first. It returns the HEADERS of the answers, and their bodies, or what the server complains about.
func twoRequests(t *testing.T, port pipes) (heads []string, bodies string) {
	t.Helper()
	conn := port.dial()
	defer conn.Close()
	go func() {
		_, _ = io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+
			"\x00\x00\x00\x04\x00\x00\x00\x00\x00"+ // SETTINGS
			"\x00\x00\x10\x01\x05\x00\x00\x00\x01\x82\x86\x84\x40\x06x-name\x04tick"+ // GET http:///, and X-Name for the table
			"\x00\x00\x04\x01\x05\x00\x00\x00\x03\x82\x86\x84\xbe") // the same from the table
	}()
	for frame := make([]byte, 9); len(bodies) < len("tick")*2; {
		if _, err := io.ReadFull(conn, frame); err != nil {
			t.Fatal(err)
		}
		payload := make([]byte, int(frame[0])<<16|int(frame[1])<<8|int(frame[2]))
		if _, err := io.ReadFull(conn, payload); err != nil {
			t.Fatal(err)
		}
		switch frame[3] {
		case 0: // DATA
			bodies += string(payload)
		case 1: // HEADERS
			heads = append(heads, string(payload))
		case 7: // GOAWAY
			t.Fatalf("the server ends the connection: %q", payload)
		}
	}
	return heads, bodies
}

// names answers with the X-Name of the request.
func names() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-Name"))
	})
}

// A smaller MaxDecoderHeaderTableSize saves memory, and would break this: a client does not know of it before it has sent its
// first requests.
func TestHTTP2RequestsThatComeAtOnceMayShareTheirHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		port, stop := serving(t, names(), func() {})
		defer stop()
		if _, bodies := twoRequests(t, port); bodies != "ticktick" {
			t.Errorf("the answers are %q", bodies)
		}
	})
}

func TestHTTP2ConnectionKeepsNoHeadersOfItsAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		port, stop := serving(t, names(), func() {})
		defer stop()
		heads, _ := twoRequests(t, port)
		// The first one says that the table has no room, and has all headers that the second one has.
		if !strings.HasPrefix(heads[0], "\x21") || heads[0][1:] != heads[1] {
			t.Errorf("the heads are %q", heads)
		}
	})
}
