package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"gin-sse/internal/testcert"
	"gin-sse/internal/testwait"
)

// refusing answers every request with an error after it has read a little of the body.
func refusing(w http.ResponseWriter, r *http.Request) {
	_, _ = io.CopyN(io.Discard, r.Body, 1000)
	_ = http.NewResponseController(w).SetReadDeadline(time.Now()) // do not wait for more
	http.Error(w, "refused", http.StatusBadRequest)
}

// A client that sends all of its request before it reads the answer, as most libraries do.
func TestARefusedUploadHasItsAnswer(t *testing.T) {
	t.Parallel()
	cert, key, pool := testcert.Write(t)
	for _, encrypted := range []bool{false, true} {
		cfg := Config{}
		if encrypted {
			cfg.CertFile, cfg.KeyFile = cert, key
		}
		_, address, _ := strings.Cut(run(t, cfg, http.HandlerFunc(refusing)), "://")
		for _, chunked := range []bool{false, true} {
			for _, expect := range []bool{false, true} {
				t.Run(fmt.Sprintf("TLS=%t chunked=%t expect=%t", encrypted, chunked, expect), func(t *testing.T) {
					t.Parallel()
					client := dialPort(t, address, encrypted, pool)
					const pieces, size = 64, 64 << 10
					framing := fmt.Sprintf("Content-Length: %d\r\n", pieces*size)
					if chunked {
						framing = "Transfer-Encoding: chunked\r\n"
					}
					if expect {
						framing += "Expect: 100-continue\r\n"
					}
					if _, err := io.WriteString(client, "POST / HTTP/1.1\r\nHost: localhost\r\n"+framing+"\r\n"); err != nil {
						t.Fatal(err)
					}
					answers := bufio.NewReader(client)
					if expect {
						if line, err := answers.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
							t.Fatalf("%q and error %v", line, err)
						}
						if _, err := answers.Discard(len("\r\n")); err != nil {
							t.Fatal(err)
						}
					}
					piece := strings.Repeat("x", size)
					for n := range pieces {
						if chunked {
							piece = fmt.Sprintf("%x\r\n%s\r\n", size, strings.Repeat("x", size))
						}
						if _, err := io.WriteString(client, piece); err != nil {
							t.Fatalf("after %d of %d pieces: %v", n, pieces, err)
						}
					}
					response, err := http.ReadResponse(answers, nil)
					if err != nil {
						t.Fatal(err)
					}
					defer response.Body.Close()
					body, err := io.ReadAll(response.Body)
					if response.StatusCode != http.StatusBadRequest || string(body) != "refused\n" || err != nil {
						t.Errorf("status %d, %q, error %v", response.StatusCode, body, err)
					}
				})
			}
		}
	}
}

func dialPort(t *testing.T, address string, encrypted bool, pool *x509.CertPool) net.Conn {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if err := client.SetDeadline(time.Now().Add(testwait.Limit)); err != nil {
		t.Fatal(err)
	}
	if encrypted {
		return tls.Client(client, &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{"http/1.1"}})
	}
	return client
}

func TestAClientThatGoesOnSendingDoesNotDelayTheStop(t *testing.T) {
	t.Parallel()
	refused := make(chan struct{})
	listener, err := openPort(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := newConnections(listener.(*net.TCPListener), false, 0)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- serve(ctx, port, Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			refusing(w, r)
			close(refused)
		}), func() {})
	}()
	client, err := net.Dial("tcp", port.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := io.WriteString(client, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"+strings.Repeat("x", 2000)); err != nil {
		t.Fatal(err)
	}
	<-refused
	if _, err := http.ReadResponse(bufio.NewReader(client), nil); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took >= lingerSilent {
		t.Errorf("the stop took %v", took)
	}
}

// serve serves on a listener of the test's own.
func serve(ctx context.Context, listener net.Listener, cfg Config, handler http.Handler, onStop func()) error {
	return (&Port{Listener: listener, cfg: cfg}).Serve(ctx, handler, onStop)
}
