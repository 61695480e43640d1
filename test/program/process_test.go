package program

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gin-sse/internal/testsse"
	"gin-sse/test/internal/app"
)

func TestTheTokenThatTheCommandPrintsOpensItsTopicAlone(t *testing.T) {
	t.Parallel()
	a := app.Start(t, "SUBSCRIBE_KEY="+app.SubscribeKey, "PUBLISH_TOKEN="+app.Token)
	printed := app.TokenFor(t, "private/orders/alice", "--for", "1h", "private/builds/*")
	for topic, want := range map[string]int{"private/orders/alice": 200, "private/builds/7": 200, "private/orders/bob": 403} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL+"/sse?topic="+topic, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+printed)
		response, err := app.Client(t).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s is answered with %s, want %d", topic, response.Status, want)
		}
		if want == http.StatusOK {
			a.PublishTo(topic, `"hello"`)
			testsse.ReadUntil(t, response.Body, `data:"hello"`)
		}
	}
	if strings.Contains(a.Out.String(), printed[20:]) {
		t.Errorf("the token is in the log: %s", a.Out.String())
	}
}

func TestCleanStartSaysWhereItRunsAndWithWhat(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"debug", "release"} {
		a := app.Start(t, "GIN_MODE="+mode)
		a.Out.Wait(t, "msg=started")
		want := regexp.MustCompile(`^Server running on http://localhost:` + a.Port + `\ntime=\S+ level=INFO msg=started version=\S+ max_clients=\d+ history=1000 history_bytes=67108864 max_event_bytes=65000 log=memory` + "\n$")
		if !want.MatchString(a.Out.String()) {
			t.Errorf("GIN_MODE=%s: it said %q, want %s", mode, a.Out.String(), want)
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
		out, code := app.Fails(t, test.env, test.args...)
		if code != 1 || !strings.HasPrefix(out, "gin-sse: "+test.want) || strings.Count(out, "\n") != 1 {
			t.Errorf("exit status %d, and it said %q; want 1 and one line %q", code, out, test.want)
		}
	}
}

func TestHelpAndVersionAreThereWhateverTheSettings(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{"--help": "gin-sse healthcheck", "-h": "PUBLISH_TOKEN", "help": "PORT", "--version": "gin-sse ", "version": " go1."} {
		cmd := app.Command(t, "PORT=abc")
		cmd.Args = append(cmd.Args, arg)
		if out, err := cmd.Output(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, and standard output has %q, want %q", arg, err, out, want)
		}
	}
}

func TestHealthcheckTellsWhetherTheServerIsWell(t *testing.T) {
	t.Parallel()
	a := app.Start(t)
	for _, args := range [][]string{{"healthcheck"}, {"healthcheck", "ready"}} {
		check := app.Command(t, "PORT="+a.Port)
		check.Args = append(check.Args, args...)
		if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("with the server up: %v, and %q said %q", err, args, out)
		}
	}
	a.Stop(syscall.SIGTERM)
	if out, code := app.Fails(t, []string{"PORT=" + a.Port}, "healthcheck"); code != 1 || !strings.HasPrefix(out, "gin-sse: health check: ") || strings.Count(out, "\n") != 1 {
		t.Errorf("with the server down: exit status %d, and it said %q", code, out)
	}
}

func TestEmbeddedFilesAreServedFromAnyFolder(t *testing.T) {
	t.Parallel()
	public := os.DirFS(filepath.Join("..", "..", "public"))
	for _, mode := range []string{"debug", "release"} {
		a := app.StartIn(t, t.TempDir(), "GIN_MODE="+mode)
		err := fs.WalkDir(public, ".", func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			want, err := fs.ReadFile(public, name)
			if got := testsse.ReadAll(t, a.Get("/"+name).Body); got != string(want) {
				t.Errorf("%s: /%s is not public/%s", mode, name, name)
			}
			return err
		})
		if err != nil {
			t.Error(err)
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
			a := app.Start(t, "TZ="+zone)
			before := time.Now().Add(-time.Minute) // the tick now shown may be an earlier one, on a busy machine
			text := testsse.ReadUntil(t, a.Get("/sse").Body, "M\"}\n")
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
	a := app.Start(t, "HOST=127.0.0.1", "PORT=0") // 0 is any free one
	if want := "http://127.0.0.1:" + a.Port; a.URL != want {
		t.Errorf("it says %s, want %s", a.URL, want)
	}
	a.Get("/")
	if conn, err := net.Dial("tcp", "127.0.0.2:"+a.Port); err == nil {
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
			a := app.Start(t)
			var streams sync.WaitGroup
			for range 100 { // the server gives them 0.7 s, and a busy machine has other work
				body := a.Get("/sse").Body
				streams.Go(func() {
					// ReadAll's error would be io.ErrUnexpectedEOF if the last chunk was missing.
					if text, err := io.ReadAll(body); err != nil || !bytes.HasSuffix(text, []byte("\n\n")) {
						t.Errorf("a stream ended with %v after %q", err, text)
					}
				})
			}
			a.StopPolitely(signal)
			streams.Wait()
		})
	}
}

func TestStalledClientDoesNotHoldUpTheStop(t *testing.T) {
	t.Parallel()
	a := app.Start(t, "TICK_INTERVAL=10ms")
	conn, err := net.Dial("tcp", "127.0.0.1:"+a.Port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /sse HTTP/1.1\r\nHost: ") // never finished
	testsse.ReadUntil(t, a.Get("/sse").Body, "Server Time: ")
	if code := a.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit status %d; it said:\n%s", code, a.Out.String())
	}
}

func TestSecondSignalExitsAtOnce(t *testing.T) {
	t.Parallel()
	a := app.Start(t, "PUBLISH_TOKEN="+app.Token)
	// A request whose body does not come keeps a polite stop waiting.
	request := a.Raw("POST /sse HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + app.Token +
		"\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
	testsse.ReadUntil(t, request, "100 Continue")
	if err := a.Cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for { // until the first signal has had its effect
		conn, err := net.Dial("tcp", "127.0.0.1:"+a.Port)
		if err != nil {
			break
		}
		conn.Close()
	}
	a.Stop(os.Interrupt)
	ended := a.Cmd.ProcessState.Sys().(syscall.WaitStatus)
	if polite := strings.Contains(a.Out.String(), "cut off"); !polite && ended.Signal() != syscall.SIGINT {
		t.Errorf("it ended with %v, want the signal", a.Cmd.ProcessState)
	}
}
