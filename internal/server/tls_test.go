package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gin-sse/internal/testcert"
	"gin-sse/internal/testsse"
)

func TestCertificatesThatCannotBeUsedAreExplained(t *testing.T) {
	t.Parallel()
	cert, key, _ := testcert.Write(t)
	_, otherKey, _ := testcert.Write(t)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]Config{
		"no such file":      {CertFile: "nowhere.pem", KeyFile: key},
		"not a certificate": {CertFile: empty, KeyFile: key},
		"another key":       {CertFile: cert, KeyFile: otherKey},
	} {
		want := fmt.Sprintf("TLS_CERT_FILE=%q with TLS_KEY_FILE=%q cannot be used: they accept the PEM files of a certificate and of its private key: ", cfg.CertFile, cfg.KeyFile)
		_, err := Open(t.Context(), cfg)
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want %s", name, err, want)
		}
	}
}

func TestARenewedCertificateIsUsedForNewConnections(t *testing.T) {
	t.Parallel()
	cfg := Config{Host: "127.0.0.1", HTTP2: true}
	var before *x509.CertPool
	cfg.CertFile, cfg.KeyFile, before = testcert.Write(t)
	ctx, cancel := context.WithCancel(t.Context())
	port, err := Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- port.Serve(ctx, names(), func() {}) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	connect := func(roots *x509.CertPool) (*tls.Conn, error) {
		return tls.Dial("tcp", port.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "localhost"})
	}
	open, err := connect(before)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	cert, key, after := testcert.Write(t)
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
		port.Reload(time.Now())
	}
	used := func(roots *x509.CertPool) bool {
		conn, err := connect(roots)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	move(cert, cfg.CertFile) // its key comes a moment later, so the two do not fit
	if !used(before) {
		t.Error("while the new files are incomplete, the certificate before is not used")
	}
	move(key, cfg.KeyFile)
	if !used(after) || used(before) {
		t.Error("the new certificate is not used, or the one before still is")
	}
	if _, err := io.WriteString(open, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Name: still here\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if got := testsse.ReadAll(t, open); !strings.HasSuffix(got, "still here") {
		t.Errorf("over a connection that was open, the answer is %q", got)
	}
}

func TestTLSIsVersion12OrNewer(t *testing.T) {
	t.Parallel()
	cert, key, pool := testcert.Write(t)
	_, address, _ := strings.Cut(run(t, Config{Host: "127.0.0.1", CertFile: cert, KeyFile: key}, http.NotFoundHandler()), "://")
	for version, accepted := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: version, MaxVersion: version})
		if accepted != (err == nil) || err != nil && !strings.Contains(err.Error(), "protocol version not supported") {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			conn.Close()
		}
	}
}
