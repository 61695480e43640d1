package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// raw sends bytes as they are and returns the connection, which is closed when the test ends.
func (a *app) raw(text string) net.Conn {
	a.t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+a.port)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		a.t.Fatal(err)
	}
	return conn
}

func TestOutOfDescriptorsStreamsGoOnAndNewClientsGetInWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	a := startLimited(t, 64, "TICK_INTERVAL=50ms")
	stream := a.get("/sse").Body
	readUntil(t, stream, "Server Time: ")
	var others []net.Conn
	for range 100 {
		others = append(others, a.raw("GET /sse HTTP/1.1\r\nHost: x\r\n\r\n"))
	}
	a.out.wait(t, "too many open files")
	for range 3 {
		readUntil(t, stream, "Server Time: ")
	}
	for _, conn := range others[:80] {
		conn.Close()
	}
	readUntil(t, a.get("/sse").Body, "Server Time: ")
	readUntil(t, stream, "Server Time: ")
	for _, conn := range others[80:] {
		readUntil(t, conn, "Server Time: ") // who waited is let in as well
	}
}

func TestMaxClients(t *testing.T) {
	t.Parallel()
	a := start(t, "MAX_CLIENTS=1")
	first := a.get("/sse")
	readUntil(t, first.Body, "Server Time: ")
	if response := a.get("/sse"); response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("second client: status %d, Retry-After %q", response.StatusCode, response.Header.Get("Retry-After"))
	}
	if response := a.get("/"); response.StatusCode != http.StatusOK {
		t.Errorf("the page: status %d", response.StatusCode)
	}
	first.Body.Close()
	a.out.wait(t, "| 200 | ") // the page's line or the stream's
	for deadline := time.Now().Add(patience); ; {
		if response := a.get("/sse"); response.StatusCode == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no room after the first client left")
		}
	}
}

func TestClientThatLeavesIsLetGoWithin30SecondsWithoutTicks(t *testing.T) {
	t.Parallel()
	a := start(t, "TICK_INTERVAL=0")
	conn := a.raw("GET /sse HTTP/1.0\r\n\r\n")
	readUntil(t, conn, "data:{}\n\n")
	conn.Close()
	begin := time.Now()
	a.out.waitFor(t, `"/sse"`, 1, 40*time.Second)
	took := time.Since(begin)
	t.Logf("let go after %v", took)
	if took > 35*time.Second { // a busy machine's too
		t.Errorf("let go after %v", took)
	}
}

func TestSlowOrEndlessHeadersAreCutOff(t *testing.T) {
	t.Parallel()
	a := start(t)
	for name, begun := range map[string]string{
		"nothing":        "",
		"half a request": "GET /sse HTTP/1.1\r\nHost: x\r\nX-Slow: ",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := a.raw(begun)
			begin := time.Now()
			_ = conn.SetReadDeadline(begin.Add(patience))
			dripping := time.AfterFunc(5*time.Second, func() { _, _ = io.WriteString(conn, "x") })
			defer dripping.Stop()
			if _, err := io.ReadAll(conn); err != nil {
				t.Errorf("not cut off after %v: %v", time.Since(begin), err)
			}
		})
	}
	for size, status := range map[int]int{15 << 10: 200, 17 << 10: 431} {
		conn := a.raw("HEAD /sse HTTP/1.1\r\nHost: x\r\nX-Big: " + strings.Repeat("x", size) + "\r\n\r\n")
		if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(line, fmt.Sprintf("HTTP/1.1 %d ", status)) {
			t.Errorf("headers of %d bytes: %q and error %v, want status %d", size, line, err, status)
		}
	}
}

func TestBodyThatNeverComesEndsWithTheRequestsTime(t *testing.T) {
	t.Parallel()
	a := start(t, "MAX_CLIENTS=10", "PUBLISH_TOKEN="+token)
	for _, request := range []string{
		"GET /app.js HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
		"GET /sse HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
		"GET /sse HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
		"GET /status/sse HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
		"POST /sse HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n",
	} {
		t.Run(request[:14], func(t *testing.T) {
			t.Parallel()
			conn := a.raw(request)
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			if answer, err := io.ReadAll(conn); err != nil {
				t.Errorf("the connection is held after %q: %v", answer, err)
			}
		})
	}
}

func TestHTTP2RequestThatStopsInTheMiddleIsCutOff(t *testing.T) {
	t.Parallel()
	a := start(t)
	conn := a.raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" +
		"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + // SETTINGS
		"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82") // HEADERS with :method GET, and more to come
	_ = conn.SetReadDeadline(time.Now().Add(2 * patience))
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("the connection is held: %v", err)
	}
}

func TestStoppedProcessGoesOnWithEveryStream(t *testing.T) {
	t.Parallel()
	a := start(t)
	stream := bufio.NewReader(a.get("/sse").Body)
	next := func() string {
		for {
			line, err := stream.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(line, "data:") {
				return line
			}
		}
	}
	before := next()
	if err := a.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	<-time.After(30 * time.Second) // longer than every time limit of the server
	if err := a.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{before: true}
	for range 4 {
		line := next()
		if seen[line] {
			t.Errorf("%q came twice", line)
		}
		seen[line] = true
	}
}

func TestNothingAClientSendsReachesTheLogUnescaped(t *testing.T) {
	t.Parallel()
	a := start(t)
	for _, path := range []string{
		"/%0a[GIN]%20forged", "/%1b[31mred", "/x?a=%0d%0aforged", "/%22quoted%22", "/%00", "/%e2%80%ae",
	} {
		response := a.get(path)
		if page := body(t, response); response.StatusCode != http.StatusNotFound || strings.Contains(page, "forged") {
			t.Errorf("%s: status %d and %q", path, response.StatusCode, page)
		}
	}
	forged := a.raw("GET /<script> HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6\r\nUser-Agent: \x1b[31mred\r\nReferer: forged\r\n\r\n")
	if _, err := bufio.NewReader(forged).ReadString('\n'); err != nil {
		t.Error(err)
	}
	a.get("/last")
	a.out.wait(t, "/last")
	for _, line := range strings.Split(strings.TrimSuffix(a.out.String(), "\n"), "\n")[1:] {
		if !strings.HasPrefix(line, "[GIN] 2") || strings.ContainsAny(line, "\x1b\x00\r\u202e") || strings.Contains(line, "6.6.6.6") {
			t.Errorf("a client wrote the log line %q", line)
		}
	}
}

func TestTrustedProxiesTellWhoTheClientIs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ trusted, logged string }{
		{"", "127.0.0.1"},
		{"10.0.0.0/8", "127.0.0.1"},
		{"127.0.0.1", "203.0.113.7"},
		{"10.0.0.0/8, 127.0.0.0/8", "203.0.113.7"},
	} {
		a := start(t, "TRUSTED_PROXIES="+test.trusted)
		a.raw("HEAD / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n")
		if line := a.out.wait(t, "HEAD"); !strings.Contains(line, " "+test.logged+" ") {
			t.Errorf("TRUSTED_PROXIES=%q: the log says %q, want %s", test.trusted, line, test.logged)
		}
	}
}

func TestAllowedOriginsMayOpenTheStream(t *testing.T) {
	t.Parallel()
	const dev, site, evil = "http://localhost:5173", "https://example.com", "https://evil.example"
	for _, test := range []struct {
		allowed, origin string
		status          int
		allow           string
	}{
		{"", dev, 200, ""},
		{dev, dev, 200, dev},
		{dev + ", " + site, site, 200, site},
		{dev, evil, 403, ""},
		{dev, dev + "0", 403, ""},
		{dev, "null", 403, ""},
		{dev, "", 200, ""},
		{"*", evil, 200, "*"},
	} {
		a := start(t, "ALLOWED_ORIGINS="+test.allowed)
		for _, method := range []string{http.MethodGet, http.MethodOptions} {
			request, err := http.NewRequestWithContext(t.Context(), method, a.url+"/sse", nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.origin != "" {
				request.Header.Set("Origin", test.origin)
			}
			want := test.status
			if method == http.MethodOptions {
				if test.origin == "" || test.allowed == "" {
					continue
				}
				request.Header.Set("Access-Control-Request-Method", http.MethodGet)
				request.Header.Set("Access-Control-Request-Headers", "last-event-id")
				if want == http.StatusOK {
					want = http.StatusNoContent
				}
			}
			response, err := client(t).Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if got := response.Header.Get("Access-Control-Allow-Origin"); response.StatusCode != want || got != test.allow {
				t.Errorf("ALLOWED_ORIGINS=%q, %s from %q: status %d, allowed %q; want %d, %q",
					test.allowed, method, test.origin, response.StatusCode, got, want, test.allow)
			}
			if response.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Error("credentials are allowed")
			}
		}
	}
}

func TestNoOtherOriginMayPublishFromABrowser(t *testing.T) {
	t.Parallel()
	const evil = "https://evil.example"
	for _, allowed := range []string{"", evil, "*"} {
		a := start(t, "PUBLISH_TOKEN="+token, "ALLOWED_ORIGINS="+allowed)
		ask := func(method string, header http.Header, body string) *http.Response {
			request, err := http.NewRequestWithContext(t.Context(), method, a.url+"/sse", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			request.Header = header
			request.Header.Set("Origin", evil)
			response, err := client(t).Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			return response
		}
		// With the token in a header, a browser asks first, and is not told that it may.
		preflight := ask(http.MethodOptions, http.Header{
			"Access-Control-Request-Method":  {http.MethodPost},
			"Access-Control-Request-Headers": {"authorization,content-type"},
		}, "").Header
		if methods, headers := preflight.Get("Access-Control-Allow-Methods"), strings.ToLower(preflight.Get("Access-Control-Allow-Headers")); strings.ContainsAny(methods+headers, "*") ||
			strings.Contains(methods, http.MethodPost) || strings.Contains(headers, "authorization") {
			t.Errorf("ALLOWED_ORIGINS=%q: a browser may send %q with %q", allowed, methods, headers)
		}
		// What it sends without asking has no token.
		for _, contentType := range []string{"application/x-www-form-urlencoded", "text/plain"} {
			if response := ask(http.MethodPost, http.Header{"Content-Type": {contentType}, "Cookie": {"token=" + token}}, "message=forged"); response.StatusCode != http.StatusUnauthorized {
				t.Errorf("ALLOWED_ORIGINS=%q: a form is answered with %d", allowed, response.StatusCode)
			}
		}
	}
}

func TestEveryPageHasTheSecurityHeaders(t *testing.T) {
	t.Parallel()
	a := start(t)
	for _, path := range []string{"/", "/app.js", "/nope", "/healthz", "/sse", "/status", "/status/sse"} {
		header := a.get(path).Header
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
			"X-Content-Type-Options":  "nosniff",
			"X-Frame-Options":         "DENY",
			"Referrer-Policy":         "same-origin",
		} {
			if got := header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
}
