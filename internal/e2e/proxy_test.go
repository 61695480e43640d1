package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gin-sse/internal/testlog"
	"gin-sse/internal/testport"
)

// A proxy runs with the very file that docs shows, but for the ports.
type proxy struct {
	name   string
	config string      // the file in docs
	listen []string    // what it says there for port 80, and what instead for an address
	server string      // what to say for the address of the server, instead of localhost:3000
	swap   [][2]string // what else it says there, and what instead
	around string      // what the test adds, for the whole file
	args   []string
}

var proxies = []proxy{
	nginx, haproxy, caddy,
	speakHTTP2(haproxy, "%s proto h2"),
	speakHTTP2(caddy, "h2c://%s"),
}

var nginx = proxy{
	name:   "nginx",
	config: "nginx.conf",
	listen: []string{"listen 80;", "listen %s;"},
	server: "%s",
	// What Debian has around the files of conf.d, where it may be written without privileges.
	around: `
		daemon off;
		master_process off;
		pid nginx.pid;
		events {}
		http {
			access_log off;
			client_body_temp_path client_body;
			proxy_temp_path proxy;
			fastcgi_temp_path fastcgi;
			uwsgi_temp_path uwsgi;
			scgi_temp_path scgi;
			%s
		}`,
	args: []string{"-e", "stderr", "-p", ".", "-c"},
}

var haproxy = proxy{
	name:   "haproxy",
	config: "haproxy.cfg",
	listen: []string{"bind :80\n", "bind %s\n"},
	server: "%s",
	around: "%s",
	args:   []string{"-db", "-f"},
}

var caddy = proxy{
	name:   "caddy",
	config: "Caddyfile",
	listen: []string{"\n:80 {", "\nhttp://%s {"},
	server: "%s",
	around: "{\n\tadmin off\n}\n%s",
	args:   []string{"run", "--adapter", "caddyfile", "--config"},
}

func speakHTTP2(p proxy, server string) proxy {
	p.server = server
	return p
}

func (p proxy) String() string {
	if p.server == "%s" {
		return p.name
	}
	return p.name + " over HTTP2"
}

func TestEventsArriveOneByOneBehindAProxy(t *testing.T) {
	t.Parallel()
	for _, p := range proxies {
		for _, compressed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s compressed=%t", p, compressed), func(t *testing.T) {
				t.Parallel()
				a := start(t, "TICK_INTERVAL=0", "PUBLISH_TOKEN="+token)
				url := p.start(t, "127.0.0.1:"+a.port)
				response := open(t, &http.Transport{DisableCompression: !compressed}, http.MethodGet, url)
				if p.name == nginx.name && response.Uncompressed != compressed {
					t.Errorf("that the answer was compressed is %t, want %t", response.Uncompressed, compressed)
				}
				readFirst(t, response.Body)
				for n := range 5 {
					// Nothing more is sent until this one has arrived.
					id := a.publish(fmt.Sprintf(`{"message":"number %d"}`, n))
					readUntil(t, response.Body, fmt.Sprintf("id:%s\ndata:{\"message\":\"number %d\"}\n\n", id, n))
				}
			})
		}
	}
}

func TestServerBehindAProxyNoticesClientsThatLeaveAndEndsItsStreams(t *testing.T) {
	t.Parallel()
	for _, p := range proxies {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			a := start(t)
			url := p.start(t, "127.0.0.1:"+a.port)

			head := open(t, new(http.Transport), http.MethodHead, url)
			if got := head.Header.Get("Content-Type"); head.StatusCode != http.StatusOK || got != "text/event-stream" {
				t.Errorf("HEAD is answered with %s and Content-Type %q", head.Status, got)
			}

			leaving := open(t, new(http.Transport), http.MethodGet, url).Body
			readUntil(t, leaving, "Server Time: ")
			leaving.Close()
			a.out.Wait(t, `GET      "/sse"`)

			staying := open(t, new(http.Transport), http.MethodGet, url).Body
			readUntil(t, staying, "Server Time: ")
			a.stopPolitely(syscall.SIGTERM)
			if text, err := io.ReadAll(staying); err != nil || len(text) > 0 && !bytes.HasSuffix(text, []byte("\n\n")) {
				t.Errorf("the stream ended with %v after %q", err, text)
			}
		})
	}
}

// nginx ends a silent stream after 60 s, HAProxy after the 50 s of its file; the comments come well before.
func TestSilentStreamStaysOpenBehindAProxy(t *testing.T) {
	t.Parallel()
	a := start(t, "TICK_INTERVAL=0")
	var streams []io.Reader
	for _, p := range proxies {
		url := p.start(t, "127.0.0.1:"+a.port)
		streams = append(streams, open(t, new(http.Transport), http.MethodGet, url).Body)
	}
	for _, stream := range streams { // all wait for the same one
		readUntil(t, stream, "\n\n:\n\n")
	}
}

// start runs the proxy in front of the server and returns where it has the stream. It is ended with
// the test.
func (p proxy) start(t *testing.T, server string) string {
	t.Helper()
	long(t)
	path, err := exec.LookPath(p.name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + p.name) // which is not in every user's PATH
	}
	if err != nil {
		missing(t, p.name, "install it (apt-get install "+p.name+")")
	}
	shown, err := os.ReadFile(filepath.Join("..", "..", "docs", p.config))
	if err != nil {
		t.Fatal(err)
	}

	address := fmt.Sprint("127.0.0.1:", testport.Free(t))
	config := string(shown)
	parts := append(slices.Clone(p.swap), [2]string{p.listen[0], fmt.Sprintf(p.listen[1], address)})
	if server != "" {
		parts = append(parts, [2]string{"localhost:3000", fmt.Sprintf(p.server, server)})
	}
	for _, part := range parts {
		if n := strings.Count(config, part[0]); n != 1 {
			t.Fatalf("%s has %q %d times, want 1", p.config, part[0], n)
		}
		config = strings.Replace(config, part[0], part[1], 1)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, p.config), fmt.Appendf(nil, p.around, config), 0o600); err != nil {
		t.Fatal(err)
	}

	out := new(testlog.Log)
	cmd := exec.CommandContext(t.Context(), path, append(p.args[:len(p.args):len(p.args)], p.config)...)
	cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed
		close(exited)
	}()
	t.Cleanup(func() { <-exited })
	if !accepts(t, address, exited) {
		t.Fatalf("%s did not start: %s", p.name, out.String())
	}
	return "http://" + address + "/sse"
}

// accepts waits until the address takes connections, or else the process there has exited.
func accepts(t *testing.T, address string, exited <-chan struct{}) bool {
	t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	timeout := time.After(patience)
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		select {
		case <-exited:
			return false
		case <-timeout:
			t.Fatalf("nothing at %s: %v", address, err)
		case <-again.C:
			if err == nil {
				return true
			}
		}
	}
}

func TestDocsShowTheConfigurationsThatAreTested(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "proxies.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []proxy{nginx, haproxy, caddy} {
		config, err := os.ReadFile(filepath.Join("..", "..", "docs", p.config))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := bytes.Cut(config, []byte("\n")) // without its first line, which says where it goes
		if n := bytes.Count(text, rest); n != 1 {
			t.Errorf("docs/proxies.md shows docs/%s %d times, want once", p.config, n)
		}
	}
}
