package figures

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gin-sse/internal/testcert"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/app"
)

// BenchmarkProtocols is BenchmarkFanout for 3,000 clients over each protocol that a browser or a proxy may speak to the
// server, with the headers that a browser sends:
//
//	go test -run '^$' -bench Protocols -benchtime 30x ./figures
//
// It takes nine minutes. In 30 s each client on HTTP/2 gets a ping, which is part of the cost.
//
// Over "h2c,shared", which is HTTP/2 without TLS, 100 clients share a connection, as behind a proxy. A client of
// "page" has loaded the page over its connection before.
//
//	cpu-µs/event       user and system time of the server's process for one event to one client
//	cpu-µs/open        the same for opening a stream, with the client's own connection and the page, if any
//	B/client           by how much its resident memory grew for each client
//	collected-B/client the same when garbage has been collected, before and after
//	heap-B/client      of that, Go's heap
//	stacks-B/client    of that, the stacks of goroutines
//
// PROFILES=DIR has the servers write their profiles into folders of DIR. SERVER_ENV is added to the environment of the
// servers, such as SERVER_ENV=GOGC=50.
func BenchmarkProtocols(b *testing.B) {
	const clients, shared = 3000, 100
	certFile, keyFile, pool := testcert.Write(b)
	encryption := &tls.Config{RootCAs: pool, ServerName: "localhost"}
	encrypted := []string{"TLS_CERT_FILE=" + certFile, "TLS_KEY_FILE=" + keyFile}

	root := absolute(b, "../..")
	programs := map[string]string{
		"net-http": compileCollecting(b, absolute(b, "testdata/baseline")),
		"gin-sse":  compileCollecting(b, root),
	}
	for _, protocol := range []struct {
		name string
		env  []string
		open func(b *testing.B, address string) func(client int) io.ReadCloser
	}{
		{"http1", nil, func(b *testing.B, address string) func(int) io.ReadCloser {
			return func(client int) io.ReadCloser {
				return openHTTP1(b, client, browserHeader(), func() (net.Conn, error) {
					return net.DialTimeout("tcp", address, testwait.Limit)
				})
			}
		}},
		{"http1+tls", encrypted, func(b *testing.B, address string) func(int) io.ReadCloser {
			return func(client int) io.ReadCloser {
				return openHTTP1(b, client, browserHeader(), func() (net.Conn, error) {
					return tls.DialWithDialer(&net.Dialer{Timeout: testwait.Limit}, "tcp", address, encryption)
				})
			}
		}},
		{"http1+tls,page", encrypted, func(b *testing.B, address string) func(int) io.ReadCloser {
			return func(client int) io.ReadCloser {
				return openHTTP1(b, client, browserHeader(), func() (net.Conn, error) {
					conn, err := tls.DialWithDialer(&net.Dialer{Timeout: testwait.Limit}, "tcp", address, encryption)
					if err == nil {
						loadPage(b, conn)
					}
					return conn, err
				})
			}
		}},
		{"http2+tls", encrypted, func(b *testing.B, address string) func(int) io.ReadCloser {
			return openHTTP2(b, "https://"+address, encryption, 1, nil)
		}},
		{"http2+tls,page", encrypted, func(b *testing.B, address string) func(int) io.ReadCloser {
			return openHTTP2(b, "https://"+address, encryption, 1, pageFiles)
		}},
		{"h2c,shared", nil, func(b *testing.B, address string) func(int) io.ReadCloser {
			return openHTTP2(b, "http://"+address, nil, shared, nil)
		}},
	} {
		b.Run("protocol="+protocol.name, func(b *testing.B) {
			for _, name := range []string{"net-http", "gin-sse"} {
				b.Run("server="+name, func(b *testing.B) {
					env := slices.Concat([]string{"HOST=127.0.0.1"}, protocol.env, strings.Fields(os.Getenv("SERVER_ENV")))
					if folder := os.Getenv("PROFILES"); folder != "" {
						folder = filepath.Join(folder, protocol.name, name)
						if err := os.MkdirAll(folder, 0o700); err != nil {
							b.Fatal(err)
						}
						env = append(env, "PROFILES="+folder)
					}
					cmd := app.Command(b, env...)
					cmd.Path = programs[name]
					cmd.Dir = root // from where net-http serves the page
					server := app.StartCommand(b, cmd)
					holdOpen(b, server, clients, protocol.open(b, net.JoinHostPort("127.0.0.1", server.Port)))
				})
			}
		})
	}
}

// compileCollecting is compile with testdata/collect added to the package.
func compileCollecting(b *testing.B, folder string) (program string) {
	b.Helper()
	added, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(folder, "collect.go"): absolute(b, "testdata/collect/collect.go"),
	}})
	if err != nil {
		b.Fatal(err)
	}
	overlay := filepath.Join(b.TempDir(), "overlay.json")
	if err := os.WriteFile(overlay, added, 0o600); err != nil {
		b.Fatal(err)
	}
	return compile(b, folder, "-overlay", overlay)
}

func absolute(b *testing.B, path string) string {
	b.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		b.Fatal(err)
	}
	return path
}

// holdOpen reports what clients cost a server that was built with compileCollecting.
func holdOpen(b *testing.B, server *app.Server, clients int, open func(client int) io.ReadCloser) {
	pid := server.Cmd.Process.Pid
	fresh := resident(b, pid)
	before := collect(server, b, 1)
	f := newFan(clients)
	defer f.close()
	opening := cpuTime(b, pid)
	for i := range clients {
		f.follow(open(i))
	}
	opening = cpuTime(b, pid) - opening
	meanwhile := f.received()
	cpu, _ := f.measure(b, pid)
	grown := resident(b, pid) - fresh
	after := collect(server, b, 2)
	each := func(bytes int) float64 { return float64(bytes) / float64(clients) }
	b.ReportMetric(0, "ns/op") // it is the clock's second
	b.ReportMetric(cpu, "cpu-µs/event")
	b.ReportMetric((float64(opening.Nanoseconds())/1e3-cpu*float64(meanwhile))/float64(clients), "cpu-µs/open")
	b.ReportMetric(each(grown), "B/client")
	b.ReportMetric(each(after.resident-before.resident), "collected-B/client")
	b.ReportMetric(each(after.heap-before.heap), "heap-B/client")
	b.ReportMetric(each(after.stacks-before.stacks), "stacks-B/client")
}

// memory is what a process uses, in bytes.
type memory struct{ resident, heap, stacks int }

// collect has the server collect garbage for the nth time, and returns what is left.
func collect(a *app.Server, b *testing.B, n int) (left memory) {
	b.Helper()
	if err := a.Cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		b.Fatal(err)
	}
	prefix := fmt.Sprintf("collected %d: ", n)
	line := a.Out.Wait(b, prefix)
	if _, err := fmt.Sscanf(line, prefix+"heap %d stacks %d", &left.heap, &left.stacks); err != nil {
		b.Fatalf("%q: %v", line, err)
	}
	left.resident = resident(b, a.Cmd.Process.Pid)
	return left
}

// openHTTP2 opens streams, so many on each connection, after the requests for the files of a page.
func openHTTP2(b *testing.B, server string, encryption *tls.Config, streams int, page []file) func(client int) io.ReadCloser {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(encryption != nil)
	protocols.SetUnencryptedHTTP2(encryption == nil)
	var connection *http.Transport
	get := func(path string, header http.Header) io.ReadCloser {
		request, err := http.NewRequest(http.MethodGet, server+path, nil)
		if err != nil {
			b.Fatal(err)
		}
		request.Header = header
		response, err := connection.RoundTrip(request)
		if err != nil {
			b.Fatal(err)
		}
		if response.StatusCode != http.StatusOK {
			b.Fatalf("%s: %s", path, response.Status)
		}
		return response.Body
	}
	return func(client int) io.ReadCloser {
		if client%streams == 0 {
			connection = &http.Transport{Protocols: protocols, TLSClientConfig: encryption.Clone()}
			b.Cleanup(connection.CloseIdleConnections)
			for _, file := range page {
				body := get(file.path, file.header())
				if _, err := io.Copy(io.Discard, body); err != nil {
					b.Fatal(err)
				}
				body.Close()
			}
		}
		return get("/sse", browserHeader())
	}
}

// loadPage requests the files of a page over a connection that speaks HTTP/1.1.
func loadPage(b *testing.B, conn net.Conn) {
	b.Helper()
	answers := bufio.NewReader(conn)
	for _, file := range pageFiles {
		request := &http.Request{Method: http.MethodGet, Host: "localhost", URL: &url.URL{Path: file.path}, Header: file.header()}
		if err := request.Write(conn); err != nil {
			b.Fatal(err)
		}
		response, err := http.ReadResponse(answers, request)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
			b.Fatalf("%s: %s: %v", file.path, response.Status, err)
		}
		response.Body.Close()
	}
}

// file is one of those that a page consists of.
type file struct{ path, accept, destination, mode string }

var pageFiles = []file{
	{"/", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8", "document", "navigate"},
	{"/style.css", "text/css,*/*;q=0.1", "style", "no-cors"},
	{"/favicon.svg", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "image", "no-cors"},
	{"/app.js", "*/*", "script", "cors"},
	{"/connection.js", "*/*", "script", "cors"},
	{"/lines.js", "*/*", "script", "cors"},
	{"/lib/shared-event-source.js", "*/*", "script", "cors"},
	{"/lib/connection.js", "*/*", "script", "cors"},
	{"/lib/parser.js", "*/*", "script", "cors"},
	{"/lib/tabs.js", "*/*", "script", "cors"},
}

// header is what Chromium sends when it loads the file.
func (f file) header() http.Header {
	header := browserHeader()
	header.Del("Cache-Control")
	header.Del("Pragma")
	header.Set("Accept", f.accept)
	header.Set("Sec-Fetch-Dest", f.destination)
	header.Set("Sec-Fetch-Mode", f.mode)
	return header
}

// browserHeader is what Chromium sends when a page opens a stream.
func browserHeader() http.Header {
	return http.Header{
		"Accept":             {"text/event-stream"},
		"Accept-Encoding":    {"gzip, deflate, br, zstd"},
		"Accept-Language":    {"en-US,en;q=0.9"},
		"Cache-Control":      {"no-cache"},
		"Pragma":             {"no-cache"},
		"Referer":            {"https://localhost:3000/"},
		"Sec-Ch-Ua":          {`"Not:A-Brand";v="8", "Chromium";v="156"`},
		"Sec-Ch-Ua-Mobile":   {"?0"},
		"Sec-Ch-Ua-Platform": {`"Linux"`},
		"Sec-Fetch-Dest":     {"empty"},
		"Sec-Fetch-Mode":     {"cors"},
		"Sec-Fetch-Site":     {"same-origin"},
		"User-Agent":         {"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"},
	}
}
