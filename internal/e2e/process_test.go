package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tmaxmax/go-sse"
)

func TestCleanStartSaysOnlyWhereItRuns(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"debug", "release"} {
		a := start(t, "GIN_MODE="+mode)
		if want := "Server running on http://localhost:" + a.port + "\n"; a.out.String() != want {
			t.Errorf("GIN_MODE=%s: it said %q, want %q", mode, a.out.String(), want)
		}
	}
}

func TestEachRequestIsOneLogLineAndAStreamsSaysHowLongItLasted(t *testing.T) {
	t.Parallel()
	a := start(t)
	a.get("/style.css")
	a.out.wait(t, `GET      "/style.css"`)
	stream := a.get("/sse")
	readUntil(t, stream.Body, "Server Time: ")
	stream.Body.Close()
	line := a.out.wait(t, `"/sse"`)
	if !regexp.MustCompile(`\| 200 \| +[\d.]+(µs|ms|s) \| +127\.0\.0\.1 \| GET`).MatchString(line) {
		t.Errorf("unexpected log line %q", line)
	}
	a.get("/healthz")
	a.get("/app.js")
	a.out.wait(t, `GET      "/app.js"`)
	if strings.Contains(a.out.String(), "/healthz") {
		t.Error("health checks fill the log")
	}
}

func TestUnusableSettingsEndTheStartWithOneLine(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	takenPort := taken.Addr().(*net.TCPAddr).Port

	for _, test := range []struct{ env, want string }{
		{"PORT=abc", `PORT="abc" cannot be used: it takes a port number, 0 to 65535`},
		{"PORT=-1", `PORT="-1" cannot be used: it takes a port number, 0 to 65535`},
		{"PORT=65536", `PORT="65536" cannot be used: it takes a port number, 0 to 65535`},
		{"PORT=3000\n", `PORT="3000\n" cannot be used: it takes a port number, 0 to 65535`},
		{fmt.Sprintf("PORT=%d", takenPort), fmt.Sprintf("port %d is taken by another program: stop that one, or choose another port, such as PORT=%d", takenPort, takenPort+1)},
		{"HOST=203.0.113.1", `cannot listen on HOST="203.0.113.1": it takes an address or a name of this machine, or nothing for all: `},
		{"HOST=no such host", `cannot listen on HOST="no such host": it takes an address or a name of this machine, or nothing for all: `},
		{"TICK_INTERVAL=fast", `TICK_INTERVAL="fast" cannot be used: it takes 0 for no ticks, or a duration of at least 10ms such as 1s`},
		{"TICK_INTERVAL=1", `TICK_INTERVAL="1" cannot be used: it takes 0 for no ticks, or a duration of at least 10ms such as 1s`},
		{"TICK_INTERVAL=-1s", `TICK_INTERVAL="-1s" cannot be used: it takes 0 for no ticks, or a duration of at least 10ms such as 1s`},
		{"TICK_INTERVAL=1ns", `TICK_INTERVAL="1ns" cannot be used: it takes 0 for no ticks, or a duration of at least 10ms such as 1s`},
		{"MAX_CLIENTS=-1", `MAX_CLIENTS="-1" cannot be used: it takes how many streams may be open at the same time, 0 for any number`},
		{"MAX_CLIENTS=many", `MAX_CLIENTS="many" cannot be used: it takes how many streams may be open at the same time, 0 for any number`},
		{"ALLOWED_ORIGINS=example.com", `ALLOWED_ORIGINS="example.com" cannot be used: it takes origins such as https://example.com`},
		{"ALLOWED_ORIGINS=https://example.com/", `ALLOWED_ORIGINS="https://example.com/" cannot be used: `},
		{"ALLOWED_ORIGINS=https://Example.com", `ALLOWED_ORIGINS="https://Example.com" cannot be used: `},
		{"ALLOWED_ORIGINS=https://*.example.com", `ALLOWED_ORIGINS="https://*.example.com" cannot be used: `},
		{"ALLOWED_ORIGINS=https://a.example,*", `ALLOWED_ORIGINS="https://a.example,*" cannot be used: `},
		{"ALLOWED_ORIGINS=ftp://example.com", `ALLOWED_ORIGINS="ftp://example.com" cannot be used: `},
		{"ALLOWED_ORIGINS=null", `ALLOWED_ORIGINS="null" cannot be used: `},
		{"TRUSTED_PROXIES=10.0.0.0/33", `TRUSTED_PROXIES="10.0.0.0/33" cannot be used: it takes addresses or networks such as 10.0.0.0/8, separated by commas`},
		{"TRUSTED_PROXIES=nginx", `TRUSTED_PROXIES="nginx" cannot be used: it takes addresses or networks such as 10.0.0.0/8, separated by commas`},
		{"METRICS=yes", `METRICS="yes" cannot be used: it takes true for the page /metrics, or false`},
		{"HISTORY=-1", `HISTORY="-1" cannot be used: it takes a number of messages, 0 or more`},
		{"MAX_EVENT_BYTES=0", `MAX_EVENT_BYTES="0" cannot be used: it takes a number of bytes, 1 or more`},
		{"MAX_EVENT_BYTES=64k", `MAX_EVENT_BYTES="64k" cannot be used: it takes a number of bytes, 1 or more`},
		{"PUBLISH_TOKEN=a secret", "PUBLISH_TOKEN cannot be used: it takes letters, digits and signs without spaces\n"},
		{"NATS_URL=nats://user:pass word@localhost:4222", "NATS_URL cannot be used: it takes addresses such as nats://localhost:4222 or tls://user:password@nats.example.com, separated by commas\n"},
		{"NATS_URL=http://localhost:4222", "NATS_URL cannot be used: "},
		{"NATS_URL=nats://a,,nats://b", "NATS_URL cannot be used: "},
		{"NATS_STREAM=a.b", `NATS_STREAM="a.b" cannot be used: it takes a name of letters, digits, hyphens and underscores`},
		{"NATS_STREAM=>", `NATS_STREAM=">" cannot be used: `},
		{"NATS_REPLICAS=0", `NATS_REPLICAS="0" cannot be used: it takes on how many NATS servers each message is stored, 1 to 5`},
		{"NATS_REPLICAS=6", `NATS_REPLICAS="6" cannot be used: `},
		{"NATS_CREDS=/none.creds", `NATS_CREDS="/none.creds" cannot be used: it takes the path of a credentials file that can be read`},
		{"TZ=Mars/Olympus", `TZ="Mars/Olympus" cannot be used: it takes a time zone such as Europe/Berlin or UTC`},
	} {
		t.Run(test.env, func(t *testing.T) {
			t.Parallel()
			out, code := fails(t, []string{"PORT=0", test.env})
			if code != 1 || !strings.HasPrefix(out, "gin-sse: "+test.want) || strings.Count(out, "\n") != 1 {
				t.Errorf("exit status %d, and it said %q; want 1 and one line %q", code, out, test.want)
			}
		})
	}
}

func TestUnknownArgumentsAreRefused(t *testing.T) {
	t.Parallel()
	out, code := fails(t, []string{"PORT=0"}, "--help")
	if want := `gin-sse: unknown arguments ["--help"]: give none to start the server, or healthcheck to ask whether it is well, or healthcheck ready to ask whether clients should come here` + "\n"; code != 1 || out != want {
		t.Errorf("exit status %d, and it said %q; want 1 and %q", code, out, want)
	}
}

func TestEmptySettingsAreDefaults(t *testing.T) {
	t.Parallel()
	a := start(t, "HOST=", "TICK_INTERVAL=", "TZ=")
	readUntil(t, a.get("/sse").Body, "Server Time: ")
}

func TestTimeIsInTheZoneOfTZ(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"Asia/Kolkata", "America/St_Johns", "UTC", ":Europe/Berlin"} {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			location, err := time.LoadLocation(strings.TrimPrefix(zone, ":"))
			if err != nil {
				t.Fatal(err)
			}
			a := start(t, "TZ="+zone)
			before := time.Now().Add(-time.Second) // the tick now shown may be the one before
			text := readUntil(t, a.get("/sse").Body, "M\"}\n")
			after := time.Now()
			for at := before; !at.After(after.Add(time.Second)); at = at.Add(time.Second) {
				if strings.Contains(text, `data:{"message":"Server Time: `+at.In(location).Format("3:04:05 PM")+`"}`) {
					return
				}
			}
			t.Errorf("%q is not the time in %s", text, zone)
		})
	}
}

func TestHostLimitsWhoCanConnect(t *testing.T) {
	t.Parallel()
	a := start(t, "HOST=127.0.0.1", "PORT=0") // 0 is any free one
	if want := "http://127.0.0.1:" + a.port; a.url != want {
		t.Errorf("it says %s, want %s", a.url, want)
	}
	a.get("/")
	if conn, err := net.Dial("tcp", "127.0.0.2:"+a.port); err == nil {
		conn.Close()
		t.Error("it can be reached at another address than HOST")
	}
}

func TestHealthcheckTellsWhetherTheServerIsWell(t *testing.T) {
	t.Parallel()
	a := start(t)
	check := command(t, "PORT="+a.port)
	check.Args = append(check.Args, "healthcheck")
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("with the server up: %v, and it said %q", err, out)
	}
	a.stop(syscall.SIGTERM)
	if out, code := fails(t, []string{"PORT=" + a.port}, "healthcheck"); code != 1 || !strings.HasPrefix(out, "gin-sse: health check: ") {
		t.Errorf("with the server down: exit status %d, and it said %q", code, out)
	}
	other := http.Server{Handler: http.NotFoundHandler()}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go other.Serve(listener)
	defer other.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	if out, code := fails(t, []string{"HOST=127.0.0.1", "PORT=" + port}, "healthcheck"); code != 1 || out != "gin-sse: health check: the server answers 404 Not Found\n" {
		t.Errorf("with another program on the port: exit status %d, and it said %q", code, out)
	}
}

func TestSignalEndsEveryStreamProperly(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			a := start(t)
			var streams sync.WaitGroup
			for range 1000 {
				body := a.get("/sse").Body
				streams.Go(func() {
					// ReadAll's error would be io.ErrUnexpectedEOF if the last chunk was missing.
					if text, err := io.ReadAll(body); err != nil || !bytes.HasSuffix(text, []byte("\n\n")) {
						t.Errorf("a stream ended with %v after %q", err, text)
					}
				})
			}
			begin := time.Now()
			if code := a.stop(signal); code != 0 {
				t.Errorf("exit status %d; it said:\n%s", code, a.out.String())
			}
			t.Logf("stopped 1,000 streams in %v", time.Since(begin))
			streams.Wait()
			if strings.Contains(a.out.String(), "cutting off") {
				t.Error("some clients were cut off")
			}
		})
	}
}

func TestStalledClientDoesNotHoldUpTheStop(t *testing.T) {
	t.Parallel()
	a := start(t, "TICK_INTERVAL=10ms")
	conn, err := net.Dial("tcp", "127.0.0.1:"+a.port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /sse HTTP/1.1\r\nHost: ") // never finished
	readUntil(t, a.get("/sse").Body, "Server Time: ")
	if code := a.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit status %d; it said:\n%s", code, a.out.String())
	}
}

func TestSecondSignalExitsAtOnce(t *testing.T) {
	t.Parallel()
	a := start(t, "PUBLISH_TOKEN="+token)
	// A request whose body does not come keeps a polite stop waiting.
	request := a.raw("POST /sse HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token +
		"\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
	readUntil(t, request, "100 Continue")
	if err := a.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for { // until the first signal has had its effect
		conn, err := net.Dial("tcp", "127.0.0.1:"+a.port)
		if err != nil {
			break
		}
		conn.Close()
	}
	a.stop(os.Interrupt)
	ended := a.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if polite := strings.Contains(a.out.String(), "cutting off"); !polite && ended.Signal() != syscall.SIGINT {
		t.Errorf("it ended with %v, want the signal", a.cmd.ProcessState)
	}
}

func TestAnotherPeoplesClientReadsTheStream(t *testing.T) {
	t.Parallel()
	a := start(t, "TICK_INTERVAL=20ms")
	response := a.get("/sse")
	seen := 0
	for event, err := range sse.Read(response.Body, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Type == "position" {
			continue
		}
		if !regexp.MustCompile(`^{"message":"Server Time: \d{1,2}:\d\d:\d\d [AP]M"}$`).MatchString(event.Data) || event.Type != "" {
			t.Fatalf("unexpected event %+v", event)
		}
		if seen++; seen == 20 {
			return
		}
	}
	t.Fatalf("the stream ended after %d events", seen)
}

// fails runs the program, which must exit by itself, and returns what it said and its exit status.
func fails(t *testing.T, env []string, args ...string) (string, int) {
	t.Helper()
	cmd := command(t, env...)
	cmd.Args = append(cmd.Args, args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || !cmd.ProcessState.Exited() {
		t.Fatalf("it did not exit by itself: %v; it said %q", err, out)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// readUntil reads until it has seen the text, and returns all that it read.
func readUntil(t testing.TB, r io.Reader, text string) string {
	t.Helper()
	var all []byte
	for buffer := make([]byte, 4096); ; {
		n, err := r.Read(buffer)
		all = append(all, buffer[:n]...)
		if bytes.Contains(all, []byte(text)) {
			return string(all)
		}
		if err != nil {
			t.Fatalf("%v before %q; there is %q", err, text, all)
		}
	}
}
