// Package proxy runs nginx, HAProxy and Caddy with the files of docs.
package proxy

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gin-sse/internal/testlog"
	"gin-sse/internal/testport"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/child"
	"gin-sse/test/internal/need"
)

// A proxy runs with the very file that docs shows, but for the ports.
type Proxy struct {
	Name   string
	Config string      // the file in docs
	Listen []string    // what it says there for port 80, and what instead for an address
	server string      // what to say for the address of the server, instead of localhost:3000
	Swap   [][2]string // what else it says there, and what instead
	around string      // what the test adds, for the whole file
	args   []string
}

var All = []Proxy{
	Nginx, HAProxy, Caddy,
	speakHTTP2(HAProxy, "%s proto h2"),
	speakHTTP2(Caddy, "h2c://%s"),
}

var Nginx = Proxy{
	Name:   "nginx",
	Config: "nginx.conf",
	Listen: []string{"listen 80;", "listen %s;"},
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

var HAProxy = Proxy{
	Name:   "haproxy",
	Config: "haproxy.cfg",
	Listen: []string{"bind :80\n", "bind %s\n"},
	server: "%s",
	around: "%s",
	args:   []string{"-db", "-f"},
}

var Caddy = Proxy{
	Name:   "caddy",
	Config: "Caddyfile",
	Listen: []string{"\n:80 {", "\nhttp://%s {"},
	server: "%s",
	around: "{\n\tadmin off\n}\n%s",
	args:   []string{"run", "--adapter", "caddyfile", "--config"},
}

// NginxReplicas and HAProxyReplicas are for the servers at those addresses.
func NginxReplicas(addresses ...string) Proxy {
	p := Nginx
	p.Config = "nginx-replicas.conf"
	for i, address := range addresses {
		p.Swap = append(p.Swap, [2]string{fmt.Sprintf("server replica%d:3000 ", i+1), "server " + address + " "})
	}
	return p
}

func HAProxyReplicas(addresses ...string) Proxy {
	p := HAProxy
	p.Config, p.Listen = "haproxy-replicas.cfg", []string{"bind :3000\n", "bind %s\n"}
	p.Swap = [][2]string{{" resolvers docker init-addr none\n", "\n"}} // Docker's own name server
	for i, address := range addresses {
		p.Swap = append(p.Swap, [2]string{fmt.Sprintf(" app%d:3000\n", i+1), " " + address + "\n"})
	}
	return p
}

func speakHTTP2(p Proxy, server string) Proxy {
	p.server = server
	return p
}

// String is for the name of a test.
func (p Proxy) String() string {
	if p.server == "%s" {
		return p.Name
	}
	return p.Name + " over HTTP2"
}

// Start runs the proxy in front of the server and returns where it has the stream. It is ended with
// the test.
func (p Proxy) Start(t *testing.T, server string) string {
	t.Helper()
	path := p.program(t)
	dir, address := p.write(t, server)
	out := new(testlog.Log)
	cmd := child.Command(t.Context(), path, append(p.args[:len(p.args):len(p.args)], p.Config)...)
	cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = testwait.Limit
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
		t.Fatalf("%s did not start: %s", p.Name, out.String())
	}
	return "http://" + address + "/sse"
}

// Check fails the test unless the proxy accepts the file, with the arguments that only check it.
func (p Proxy) Check(t *testing.T, args ...string) {
	t.Helper()
	path := p.program(t)
	dir, _ := p.write(t, "")
	cmd := child.Command(t.Context(), path, append(args, p.Config)...)
	cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", cmd, err, out)
	}
}

// program returns the path of the proxy.
func (p Proxy) program(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath(p.Name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + p.Name) // which is not in every user's PATH
	}
	if err != nil {
		need.Missing(t, p.Name, "install it (apt-get install "+p.Name+")")
	}
	return path
}

// write writes the file that docs shows to a directory, for a free address.
func (p Proxy) write(t *testing.T, server string) (dir, address string) {
	t.Helper()
	shown, err := os.ReadFile(filepath.Join("..", "..", "docs", p.Config))
	if err != nil {
		t.Fatal(err)
	}

	address = fmt.Sprint("127.0.0.1:", testport.Free(t))
	config := string(shown)
	parts := append(slices.Clone(p.Swap), [2]string{p.Listen[0], fmt.Sprintf(p.Listen[1], address)})
	if server != "" {
		parts = append(parts, [2]string{"localhost:3000", fmt.Sprintf(p.server, server)})
	}
	for _, part := range parts {
		if n := strings.Count(config, part[0]); n != 1 {
			t.Fatalf("%s has %q %d times, want 1", p.Config, part[0], n)
		}
		config = strings.Replace(config, part[0], part[1], 1)
	}
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, p.Config), fmt.Appendf(nil, p.around, config), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, address
}

// accepts waits until the address takes connections, or else the process there has exited.
func accepts(t *testing.T, address string, exited <-chan struct{}) bool {
	t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	timeout := time.After(testwait.Limit)
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
