package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/tmaxmax/go-sse"

	"gin-sse/internal/testcert"
	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
)

// secretFile makes a file with secrets, and returns its path and what replaces them.
func secretFile(t *testing.T, secrets ...string) (path string, replace func(secrets ...string)) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "secrets")
	replace = func(secrets ...string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(strings.Join(secrets, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	replace(secrets...)
	return path, replace
}

// signed is the header with a token for private/* that the key signs.
func signed(t *testing.T, key string) http.Header {
	t.Helper()
	claims := jwt.MapClaims{"topics": []string{"private/*"}, "exp": time.Now().Add(time.Hour).Unix(), "sub": "alice"}
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return http.Header{"Authorization": {"Bearer " + text}}
}

const otherKey = "fedcba9876543210fedcba9876543210"

// rotated is a client that follows private/a through streams that end, until it has a message that says "end". Like a
// browser it also comes back after a stream that was cut off, as on a busy machine it may read too slowly.
type rotated struct {
	got     []string
	refused int // most often in a row
	streams int
}

func (r *rotated) follow(ctx context.Context, s *site, header *atomic.Pointer[http.Header]) error {
	ctx, cancel := context.WithTimeout(ctx, testwait.Limit)
	defer cancel()
	last, refused := "earliest", 0
	var problem error
	for ; ctx.Err() == nil; <-time.After(10 * time.Millisecond) { // a browser waits longer before it comes back
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/sse?topic=private/a", nil)
		if err != nil {
			return err
		}
		request.Header = header.Load().Clone()
		request.Header.Set("Last-Event-ID", last)
		response, err := s.client.Do(request)
		if err != nil {
			problem = err
			continue
		}
		if response.StatusCode != http.StatusOK {
			response.Body.Close()
			problem = fmt.Errorf("answered with %s", response.Status)
			if response.StatusCode == http.StatusUnauthorized {
				refused++
				r.refused = max(r.refused, refused)
			}
			continue
		}
		refused, r.streams = 0, r.streams+1
		for e, err := range sse.Read(response.Body, nil) {
			if err != nil {
				problem = err
				break
			}
			if last = e.LastEventID; testsse.IsPosition(e) {
				continue
			}
			if r.got = append(r.got, e.Data); e.Data == `"end"` {
				response.Body.Close()
				return nil
			}
		}
		response.Body.Close()
	}
	return fmt.Errorf("%w after %w", ctx.Err(), problem)
}

func TestTheKeyIsRotatedUnderLoadAndNothingIsLost(t *testing.T) {
	t.Parallel()
	for _, p := range []protocol{http1, http2} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			clients := 200
			if p.name == http2.name {
				clients = 50 // which share a connection
			}
			path, replace := secretFile(t, subscribeKey)
			s := p.start(t, nil, "SUBSCRIBE_KEY_FILE="+path, "HISTORY=1000000")
			before, after := signed(t, subscribeKey), signed(t, otherKey)
			var current atomic.Pointer[http.Header]
			current.Store(&before)
			all := make([]rotated, clients)
			var following sync.WaitGroup
			t.Cleanup(following.Wait) // also after a failure
			for i := range all {
				following.Go(func() {
					if err := all[i].follow(t.Context(), s, &current); err != nil {
						t.Errorf("client %d: %v", i, err)
					}
				})
			}
			published := 0
			publish := func(data any) {
				t.Helper()
				if _, err := s.events.Publish(t.Context(), "private/a", data); err != nil {
					t.Fatal(err)
				}
				published++
			}
			for n := range 300 {
				publish(n)
				switch n {
				case 100: // both are accepted, and the first one signs from now on
					replace(otherKey, subscribeKey)
					s.reload()
					current.Store(&after)
				case 150: // a file that cannot be used changes nothing
					replace("too short")
					s.reload()
				case 200:
					replace(otherKey)
					s.reload()
				}
			}
			publish("end")
			following.Wait()
			for i, r := range all {
				if len(r.got) != published || r.refused > 1 {
					t.Errorf("client %d got %d of %d messages over %d streams, and was refused %d times in a row", i, len(r.got), published, r.streams, r.refused)
				}
				for n, data := range r.got[:max(0, len(r.got)-1)] {
					if data != fmt.Sprint(n) {
						t.Fatalf("client %d: message %d is %s", i, n, data)
					}
				}
			}
			if response, text := s.ask(http.MethodGet, "/sse?topic=private/a", before, ""); response.StatusCode != http.StatusUnauthorized {
				t.Errorf("a token of the key before is answered with %s, %s", response.Status, text)
			}
		})
	}
}

func TestRemovingAKeyEndsItsStreamsAlone(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		path, replace := secretFile(t, subscribeKey, otherKey)
		s := p.start(t, nil, "SUBSCRIBE_KEY_FILE="+path, "METRICS=true")
		ends, stays, public := s.follow("/sse?topic=private/a", signed(t, subscribeKey)), s.follow("/sse?topic=private/a", signed(t, otherKey)), s.follow("/sse?topic=a", nil)
		replace("")
		s.reload()
		replace(otherKey)
		s.reload()
		s.reload()
		ends.WantsRest()
		for _, topic := range []string{"private/a", "a"} {
			if _, err := s.events.Publish(t.Context(), topic, 1); err != nil {
				t.Fatal(err)
			}
		}
		stays.Wants("1")
		public.Wants("1")
		line := s.out.Wait(t, " msg=stream ")
		if !strings.HasSuffix(line, ` ended=revoked sub=alice topics=private/a events=0`) {
			t.Errorf("the log has %q", line)
		}
		if _, text := s.ask(http.MethodGet, "/metrics", nil, ""); !strings.Contains(text, "\ngin_sse_streams_ended_total{reason=\"revoked\"} 1\n") {
			t.Errorf("the figures are %s", text)
		}
		problem := `level=ERROR msg="SUBSCRIBE_KEY_FILE: the new content cannot be used, and what was read before stays in force" error="the file has no secret`
		if lines := errorLog.Lines(problem); len(lines) == 0 {
			t.Errorf("the log has %q", errorLog.String())
		}
	})
}

func TestPublishTokensAreRotated(t *testing.T) {
	t.Parallel()
	path, replace := secretFile(t, "old")
	s := start(t, "PUBLISH_TOKEN=", "PUBLISH_TOKEN_FILE="+path)
	want := func(accepted map[string]int) {
		t.Helper()
		for token, status := range accepted {
			header := authorized("application/json")
			header.Set("Authorization", "Bearer "+token)
			if response, fields := s.publish("/sse", header, "1"); response.StatusCode != status {
				t.Errorf("with %s: %s, %v; want %d", token, response.Status, fields, status)
			}
		}
	}
	want(map[string]int{"old": 202, "new": 401, "": 401})
	replace("new", "", "old", "")
	s.reload()
	want(map[string]int{"old": 202, "new": 202})
	replace("new")
	s.reload()
	want(map[string]int{"old": 401, "new": 202})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.reload()
	want(map[string]int{"old": 401, "new": 202})
}

func TestARenewedCertificateIsUsedForNewConnections(t *testing.T) {
	t.Parallel()
	s := protocol{"HTTP2 over TLS", "HTTP/2.0", true, (*http.Protocols).SetHTTP2}.start(t, nil)
	stream := s.follow("/sse?topic=a", nil)
	_, address, _ := strings.Cut(s.url, "://")
	connect := func(config *tls.Config) error {
		config.ServerName = "localhost"
		conn, err := tls.Dial("tcp", address, config)
		if err == nil {
			conn.Close()
		}
		return err
	}
	trusted := s.client.Transport.(*http.Transport).TLSClientConfig.RootCAs
	cert, key, pool := testcert.Write(t)
	move := func(from, to string) {
		t.Helper()
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s.reload()
	}
	move(cert, s.cfg.TLSCertFile) // its key comes a moment later, so the two do not fit
	if err := connect(&tls.Config{RootCAs: trusted}); err != nil {
		t.Errorf("while the new files are incomplete: %v", err)
	}
	move(key, s.cfg.TLSKeyFile)
	if err := connect(&tls.Config{RootCAs: pool}); err != nil {
		t.Errorf("the new certificate is not used: %v", err)
	}
	if connect(&tls.Config{RootCAs: trusted}) == nil {
		t.Error("the certificate before is still used")
	}
	s.publish("/sse?topic=a", authorized("application/json"), "1") // over the connection that is open
	stream.Wants("1")
}
