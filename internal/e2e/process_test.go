package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
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

func TestStartThatFailsSaysWhyInOneLineAndExitsWith1(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		env, args []string
		want      string
	}{
		{[]string{"PORT=abc"}, nil, `PORT="abc" cannot be used: it accepts a port number, 0 to 65535; 0 takes any free port`},
		{[]string{"HOST=203.0.113.1"}, nil, `cannot listen on HOST="203.0.113.1": `},
		{nil, []string{"serve", "-x"}, `unknown arguments ["serve" "-x"]: gin-sse --help lists the known ones`},
	} {
		out, code := fails(t, test.env, test.args...)
		if code != 1 || !strings.HasPrefix(out, "gin-sse: "+test.want) || strings.Count(out, "\n") != 1 {
			t.Errorf("exit status %d, and it said %q; want 1 and one line %q", code, out, test.want)
		}
	}
}

func TestHelpAndVersionAreThereWhateverTheSettings(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{"--help": "gin-sse healthcheck", "-h": "PUBLISH_TOKEN", "help": "PORT", "--version": "gin-sse ", "version": " go1."} {
		cmd := command(t, "PORT=abc")
		cmd.Args = append(cmd.Args, arg)
		if out, err := cmd.Output(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, and standard output has %q, want %q", arg, err, out, want)
		}
	}
}

func TestHealthcheckTellsWhetherTheServerIsWell(t *testing.T) {
	t.Parallel()
	a := start(t)
	for _, args := range [][]string{{"healthcheck"}, {"healthcheck", "ready"}} {
		check := command(t, "PORT="+a.port)
		check.Args = append(check.Args, args...)
		if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("with the server up: %v, and %q said %q", err, args, out)
		}
	}
	a.stop(syscall.SIGTERM)
	if out, code := fails(t, []string{"PORT=" + a.port}, "healthcheck"); code != 1 || !strings.HasPrefix(out, "gin-sse: health check: ") || strings.Count(out, "\n") != 1 {
		t.Errorf("with the server down: exit status %d, and it said %q", code, out)
	}
}

func TestEmbeddedFilesAreServedFromAnyFolder(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"debug", "release"} {
		a := startIn(t, t.TempDir(), "GIN_MODE="+mode)
		want, err := os.ReadFile(filepath.Join("..", "..", "public", "index.html"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(a.get("/").Body); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: / is not public/index.html, and the error is %v", mode, err)
		}
	}
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

func TestSignalEndsEveryStreamProperly(t *testing.T) {
	t.Parallel()
	// Under nohup this process has SIGHUP ignored, and so would have the server. It does not inherit what is caught.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			a := start(t) // one after the other, as a stop in time needs the machine
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
			a.stopPolitely(signal)
			t.Logf("stopped 1,000 streams in %v", time.Since(begin))
			streams.Wait()
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
	if polite := strings.Contains(a.out.String(), "cut off"); !polite && ended.Signal() != syscall.SIGINT {
		t.Errorf("it ended with %v, want the signal", a.cmd.ProcessState)
	}
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
