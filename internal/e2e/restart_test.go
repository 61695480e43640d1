package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gin-sse/internal/testport"
)

// nohup and setsid leave a program with SIGHUP ignored. The shell here does the same.
func TestIgnoredSIGHUPStaysIgnored(t *testing.T) {
	t.Parallel()
	cmd := command(t, "TICK_INTERVAL=50ms")
	cmd.Args = []string{"sh", "-c", `trap "" HUP; exec "$0"`, cmd.Path}
	cmd.Path = "/bin/sh"
	a := startCommand(t, cmd)
	stream := a.get("/sse").Body
	if err := a.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for range 5 { // a stop would end the stream
		readUntil(t, stream, "Server Time: ")
	}
	a.stopPolitely(syscall.SIGTERM)
}

// The port is open before the messages are read: this DATA_DIR is in use, so the second process waits for it.
func TestAClientThatComesWhileTheMessagesAreReadWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := startKeeping(t, dir)
	port := testport.Free(t)
	second := command(t, fmt.Sprint("PORT=", port), "HOST=127.0.0.1", "DATA_DIR="+dir, "GIN_MODE=release")
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = second.Wait() // it is told to stop
		close(exited)
	}()
	defer func() {
		_ = second.Process.Signal(syscall.SIGTERM)
		<-exited
	}()
	address := fmt.Sprint("127.0.0.1:", port)
	if !accepts(t, address, exited) {
		t.Fatal("its port was not open while it waited for the DATA_DIR")
	}
	first.stop(syscall.SIGTERM)
	response, err := client(t).Get("http://" + address + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("the answer is %s", response.Status)
	}
}

// restart stops a server, waits until something has happened that needs nobody to listen, and starts it on the same port.
func (a *app) restart(meanwhile func()) *app {
	a.t.Helper()
	a.stop(syscall.SIGTERM)
	meanwhile()
	return start(a.t, "PORT="+a.port, "TICK_INTERVAL=0", "PUBLISH_TOKEN="+token)
}

func TestProxyHoldsClientsThroughARestart(t *testing.T) {
	t.Parallel()
	for _, p := range proxies {
		if p.name == nginx.name {
			continue // it cannot
		}
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			a := start(t, "TICK_INTERVAL=0", "PUBLISH_TOKEN="+token)
			url := p.start(t, "127.0.0.1:"+a.port)
			before := open(t, new(http.Transport), http.MethodGet, url).Body
			readFirst(t, before)
			type answer struct {
				status string
				first  string
				err    error
			}
			const clients = 20
			answers := make(chan answer, clients)
			asked := make(chan struct{}, clients)
			a.restart(func() {
				for range clients {
					go func() {
						request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
						if err != nil {
							answers <- answer{err: err}
							return
						}
						asked <- struct{}{}
						response, err := client(t).Do(request)
						if err != nil {
							answers <- answer{err: err}
							return
						}
						defer response.Body.Close()
						first := make([]byte, len("retry:"))
						_, err = io.ReadFull(response.Body, first)
						answers <- answer{response.Status, string(first), err}
					}()
				}
				for range clients {
					<-asked
				}
				select { // nobody listens, so nobody is answered
				case got := <-answers:
					t.Errorf("a client was answered: %+v", got)
				case <-time.After(500 * time.Millisecond):
				}
			})
			for range clients {
				if got := <-answers; got.err != nil || !strings.HasPrefix(got.status, "200 ") || got.first != "retry:" {
					t.Errorf("a client that came during the restart got %+v", got)
				}
			}
		})
	}
}

// section returns the block of code in docs/proxies.md that begins with a text.
func section(t *testing.T, begin string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "proxies.md"))
	if err != nil {
		t.Fatal(err)
	}
	for block := range bytes.SplitSeq(text, []byte("```")) {
		if rest, ok := bytes.CutPrefix(block, []byte("nginx\n")); ok && bytes.Contains(rest, []byte(begin)) && !bytes.Contains(rest, []byte("server {")) {
			return string(rest)
		}
	}
	t.Fatalf("docs/proxies.md has no block with %q", begin)
	return ""
}

func TestNginxAnswersAnEventSourceDuringARestartSoThatItComesBack(t *testing.T) {
	t.Parallel()
	a := start(t, "TICK_INTERVAL=0", "PUBLISH_TOKEN="+token)
	p := nginx
	address := "127.0.0.1:" + a.port
	extra := strings.ReplaceAll(section(t, "@restarting"), "localhost:3000", address)
	p.swap = [][2]string{{"    location / {\n", extra + "\n    location / {\n"}}
	url := p.start(t, address)
	readFirst(t, open(t, new(http.Transport), http.MethodGet, url).Body)
	a.restart(func() {
		response := open(t, new(http.Transport), http.MethodGet, url)
		if text := readAll(t, response.Body); response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" || text != "retry:3000\n\n" {
			t.Errorf("GET is answered with %s, %q and %q", response.Status, response.Header.Get("Content-Type"), text)
		}
		response, err := client(t).Post(url, "application/json", strings.NewReader(`"hello"`))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("POST is answered with %s", response.Status)
		}
	})
	readFirst(t, open(t, new(http.Transport), http.MethodGet, url).Body)
}
