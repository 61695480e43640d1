package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// protocols is what a client may speak, and whether the server needs a certificate for it.
var protocols = []struct {
	name string
	want string
	tls  bool
	set  func(*http.Protocols, bool)
}{
	{"HTTP1 over TLS", "HTTP/1.1", true, (*http.Protocols).SetHTTP1},
	{"HTTP2 over TLS", "HTTP/2.0", true, (*http.Protocols).SetHTTP2},
	{"HTTP2 in clear text", "HTTP/2.0", false, (*http.Protocols).SetUnencryptedHTTP2},
}

func TestStreamIsTheSameOnEveryProtocol(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol.name, func(t *testing.T) {
			t.Parallel()
			var env []string
			var pool *x509.CertPool
			scheme := "http"
			if protocol.tls {
				env, pool = certificate(t)
				scheme = "https"
			}
			a := start(t, env...)
			if want := scheme + "://localhost:" + a.port; a.url != want {
				t.Errorf("it says %s, want %s", a.url, want)
			}
			transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{RootCAs: pool}}
			protocol.set(transport.Protocols, true)

			for _, method := range []string{http.MethodHead, http.MethodGet} {
				response := open(t, transport, method, a.url+"/sse")
				if response.Proto != protocol.want || response.StatusCode != http.StatusOK {
					t.Errorf("%s is answered with %s %s, want %s 200 OK", method, response.Proto, response.Status, protocol.want)
				}
				for name, want := range map[string]string{
					"Content-Type":      "text/event-stream",
					"Cache-Control":     "no-cache",
					"X-Accel-Buffering": "no",
					"Connection":        map[bool]string{true: "keep-alive"}[response.ProtoMajor == 1], // HTTP/2 forbids it
				} {
					if got := strings.Join(response.Header[name], ", "); got != want {
						t.Errorf("%s: %s is %q, want %q", method, name, got, want)
					}
				}
				if method == http.MethodHead {
					continue
				}
				for range 2 {
					readUntil(t, response.Body, "Server Time: ")
				}
				response.Body.Close()
				a.out.wait(t, `GET      "/sse"`) // the server noticed
			}

			var streams sync.WaitGroup
			for range 20 {
				body := open(t, transport, http.MethodGet, a.url+"/sse").Body
				streams.Go(func() {
					if text, err := io.ReadAll(body); err != nil || !bytes.HasSuffix(text, []byte("\n\n")) {
						t.Errorf("a stream ended with %v after %q", err, text)
					}
				})
			}
			if code := a.stop(syscall.SIGTERM); code != 0 || strings.Contains(a.out.String(), "cutting off") {
				t.Errorf("exit status %d; it said:\n%s", code, a.out.String())
			}
			streams.Wait()
		})
	}
}

func TestManyStreamsShareOneConnection(t *testing.T) {
	t.Parallel()
	a := start(t)
	transport, connections := sharing(t)
	var streams sync.WaitGroup
	for range 1000 {
		body := open(t, transport, http.MethodGet, a.url+"/sse").Body
		streams.Go(func() {
			if text, err := io.ReadAll(body); err != nil || !bytes.Contains(text, []byte("Server Time: ")) {
				t.Errorf("a stream ended with %v after %q", err, text)
			}
		})
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("the streams took %d connections, want 1", n)
	}
	readUntil(t, a.get("/sse").Body, "Server Time: ") // so that there was a tick
	if code := a.stop(syscall.SIGTERM); code != 0 || strings.Contains(a.out.String(), "cutting off") {
		t.Errorf("exit status %d; it said:\n%s", code, a.out.String())
	}
	streams.Wait()
}

// On HTTP/2 a write deadline that is left behind ends the stream, even if nothing is being written.
func TestSilentStreamStaysOpenOnHTTP2(t *testing.T) {
	t.Parallel()
	a := start(t, "TICK_INTERVAL=0")
	transport, _ := sharing(t)
	body := open(t, transport, http.MethodGet, a.url+"/sse").Body
	readUntil(t, body, ":\n\n") // the comment after 15 s of silence
}

func TestUnreadStreamIsCutOffAndItsNeighboursOnTheConnectionGoOn(t *testing.T) {
	t.Parallel()
	a := start(t, "TICK_INTERVAL=10ms")
	transport, connections := sharing(t)
	transport.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 1024}

	unread := open(t, transport, http.MethodGet, a.url+"/sse").Body
	neighbour := open(t, transport, http.MethodGet, a.url+"/sse").Body
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, neighbour)
		ended <- err
	}()

	line := a.out.wait(t, `"/sse"`) // the handler has returned
	if !regexp.MustCompile(`\| 200 \| +1\d\.\d+s \|`).MatchString(line) {
		t.Errorf("unexpected log line %q", line)
	}
	if _, err := io.ReadAll(unread); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("the unread stream ended with %v, want a reset", err)
	}
	select {
	case err := <-ended:
		t.Errorf("its neighbour ended with %v", err)
	default:
	}
	readUntil(t, open(t, transport, http.MethodGet, a.url+"/sse").Body, "Server Time: ")
	if n := connections.Load(); n != 1 {
		t.Errorf("there were %d connections, want 1", n)
	}
	if code := a.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit status %d; it said:\n%s", code, a.out.String())
	}
	if err := <-ended; err != nil {
		t.Errorf("its neighbour ended with %v", err)
	}
}

func TestConnectionThatTakesNothingIsCutOffWithAllItsStreams(t *testing.T) {
	t.Parallel()
	a := start(t, "TICK_INTERVAL=10ms")
	asleep, wake := context.WithCancel(t.Context())
	defer wake()
	var stalled atomic.Bool
	transport, _ := sharing(t)
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialer := net.Dialer{Control: func(_, _ string, socket syscall.RawConn) error {
			var err error
			controlled := socket.Control(func(fd uintptr) {
				// With small segments the kernel holds less for a client that takes nothing.
				err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1000)
			})
			return errors.Join(controlled, err)
		}}
		conn, err := dialer.DialContext(ctx, network, address)
		return stallingConn{conn, &stalled, asleep}, err
	}
	const streams = 250 // they fill what it holds soon
	for range streams {
		open(t, transport, http.MethodGet, a.url+"/sse")
	}
	stalled.Store(true)
	a.out.waitFor(t, `"/sse"`, streams, patience)
}

// stallingConn takes nothing from the network while it is stalled.
type stallingConn struct {
	net.Conn
	stalled *atomic.Bool
	asleep  context.Context
}

func (c stallingConn) Read(p []byte) (int, error) {
	if c.stalled.Load() {
		<-c.asleep.Done()
	}
	return c.Conn.Read(p)
}

func TestTLSIsVersion12OrNewer(t *testing.T) {
	t.Parallel()
	env, pool := certificate(t)
	a := start(t, env...)
	for version, accepted := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := tls.Dial("tcp", "localhost:"+a.port, &tls.Config{RootCAs: pool, MinVersion: version, MaxVersion: version})
		if accepted != (err == nil) || err != nil && !strings.Contains(err.Error(), "protocol version not supported") {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			conn.Close()
		}
	}
}

func TestUnusableCertificatesEndTheStartWithOneLine(t *testing.T) {
	t.Parallel()
	env, _ := certificate(t)
	other, _ := certificate(t)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		env  []string
		want string
	}{
		{"no key", env[:1], `TLS_KEY_FILE="" cannot be used: it takes the private key's PEM file, as TLS_CERT_FILE is set`},
		{"no certificate", env[1:], `TLS_CERT_FILE="" cannot be used: it takes the certificate's PEM file, as TLS_KEY_FILE is set`},
		{"no such file", []string{"TLS_CERT_FILE=nowhere.pem", env[1]}, `TLS_CERT_FILE="nowhere.pem" with TLS_KEY_FILE=`},
		{"not a certificate", []string{"TLS_CERT_FILE=" + empty, env[1]}, fmt.Sprintf(`TLS_CERT_FILE=%q with TLS_KEY_FILE=`, empty)},
		{"another key", []string{env[0], other[1]}, strings.Replace(env[0], "=", `="`, 1) + `" with TLS_KEY_FILE=`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out, code := fails(t, append([]string{"PORT=0"}, test.env...))
			if code != 1 || !strings.HasPrefix(out, "gin-sse: "+test.want) || strings.Count(out, "\n") != 1 {
				t.Errorf("exit status %d, and it said %q; want 1 and one line %q", code, out, test.want)
			}
		})
	}
}

func TestHealthcheckAsksOverTLS(t *testing.T) {
	t.Parallel()
	env, _ := certificate(t)
	for _, host := range []string{"", "127.0.0.2"} { // the certificate is not for that one
		a := start(t, append(env, "HOST="+host)...)
		check := command(t, append(env, "HOST="+host, "PORT="+a.port)...)
		check.Args = append(check.Args, "healthcheck")
		if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("HOST=%s: %v, and it said %q", host, err, out)
		}
	}
}

// certificate makes one for localhost, and returns the settings for the server and the pool for the client.
func certificate(t *testing.T) (env []string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"localhost"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	dir := t.TempDir()
	for _, file := range []struct {
		variable, name string
		content        []byte
	}{{"TLS_CERT_FILE", "cert.pem", certPEM}, {"TLS_KEY_FILE", "key.pem", keyPEM}} {
		path := filepath.Join(dir, file.name)
		if err := os.WriteFile(path, file.content, 0o600); err != nil {
			t.Fatal(err)
		}
		env = append(env, file.variable+"="+path)
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return env, pool
}

// sharing returns a client that has all its streams on one HTTP/2 connection in clear text, and the
// number of connections that it opened after all.
func sharing(t *testing.T) (*http.Transport, *atomic.Int32) {
	connections := new(atomic.Int32)
	transport := &http.Transport{
		Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			connections.Add(1)
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	transport.Protocols.SetUnencryptedHTTP2(true)
	return transport, connections
}

// open asks for the address and returns the answer. It and its connection are closed when the test ends.
func open(t *testing.T, transport *http.Transport, method, url string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); response.Body.Close(); transport.CloseIdleConnections() })
	return response
}
