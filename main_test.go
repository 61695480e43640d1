package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"

	"gin-sse/handlers"
	"gin-sse/internal/config"
	"gin-sse/internal/output"
	"gin-sse/internal/server"
	"gin-sse/internal/testlog"
	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
	"gin-sse/internal/token"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	goleak.VerifyTestMain(m)
}

// program is what main.go makes of settings and serves, without the process, its clock and its signals.
type program struct {
	t    *testing.T
	url  string
	log  testlog.Log
	stop func() // as a signal does, and waits
	services
}

// with serves what these settings make until the test ends. Each is as in the environment.
func with(t *testing.T, settings ...string) *program {
	t.Helper()
	environment := map[string]string{"HOST": "127.0.0.1", "PORT": "0", "PUBLISH_TOKEN": "s3cret"}
	for _, setting := range settings {
		name, value, _ := strings.Cut(setting, "=")
		environment[name] = value
	}
	cfg, err := config.Load(environment)
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t}
	if p.secrets, err = cfg.Secrets(); err != nil {
		t.Fatal(err)
	}
	if p.events, err = handlers.Open(options(cfg, p.secrets)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.events.Close)
	p.status = handlers.NewStatus(p.events, cfg.Viewers(), cfg.Keepalive)
	var cancel context.CancelFunc
	p.running, cancel = context.WithCancel(context.Background())
	app, err := newApp(cfg, p.services, slog.New(output.Handler(&p.log, cfg.LogFormat)))
	if err != nil {
		t.Fatal(err)
	}
	port, err := server.Open(p.running, cfg.Server())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- port.Serve(p.running, app, p.close) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(p.stop)
	p.url = port.URL()
	return p
}

// wants fails the test unless the request is answered with that status. It sends headers as "Name: value", and returns the
// whole answer.
func (p *program) wants(status int, method, target, body string, headers ...string) (answer http.Header, text string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), testwait.Limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, p.url+target, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	request.Close = true
	for _, header := range headers {
		if name, value, ok := strings.Cut(header, ": "); ok {
			request.Header.Set(name, value)
		}
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		p.t.Fatal(err)
	}
	all := testsse.ReadAll(p.t, response.Body)
	response.Body.Close()
	if response.StatusCode != status {
		p.t.Errorf("%s %.100s with %q is answered with %s and %.200s, want %d", method, target, headers, response.Status, all, status)
	}
	return response.Header, all
}

const (
	authorization = "Authorization: Bearer s3cret"
	asJSON        = "Content-Type: application/json"
)

func TestEachAddressHasItsAnswerBehindTheMiddleware(t *testing.T) {
	t.Parallel()
	p := with(t, "METRICS=true")
	p.close() // so that streams end at once
	for _, test := range []struct {
		method, path string
		status       int
		typ, body    string
	}{
		{"GET", "/", 200, "text/html", ""}, // a page of the user's own may be there,
		{"GET", "/app.js", 200, "text/javascript", "EventSource"},
		{"GET", "/lib/shared-event-source.js", 200, "text/javascript", "SharedEventSource"},
		{"GET", "/sse", 200, "text/event-stream", "event:position\n"},
		{"HEAD", "/sse", 200, "text/event-stream", ""},
		{"POST", "/sse", 401, "application/json", "PUBLISH_TOKEN"},
		{"GET", "/status", 200, "text/html", `id="subscribers"`},
		{"GET", "/status/sse", 200, "text/event-stream", "retry:"},
		{"GET", "/healthz", 200, "application/json", `{"status":"ok"}`},
		{"GET", "/readyz", 200, "application/json", `{"status":"ok"}`},
		{"GET", "/metrics", 200, "text/plain", "gin_sse_subscribers"},
		{"GET", "/nope", 404, "application/json", "There is nothing at this address."},
		{"GET", "/main.go", 404, "application/json", ""},
		{"GET", "/public/index.html", 404, "application/json", ""},
		{"GET", "/sse/", 404, "application/json", "a slash too many. Use /sse."},
		{"DELETE", "/sse", 405, "application/json", "This address accepts only GET, HEAD, POST."},
		{"POST", "/app.js", 405, "application/json", "This address accepts only GET, HEAD."},
		{"GET", "/?" + strings.Repeat("x", 16<<10), 431, "application/json", "The address and the headers have "},
	} {
		header, body := p.wants(test.status, test.method, test.path, "")
		if got := header.Get("Content-Type"); !strings.HasPrefix(got, test.typ) || !strings.Contains(body, test.body) {
			t.Errorf("%s %.100s is answered with the type %q and %.200q, want %q and %q", test.method, test.path, got, body, test.typ, test.body)
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": "object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
			"X-Content-Type-Options":  "nosniff",
			"X-Frame-Options":         "DENY",
			"Referrer-Policy":         "same-origin",
		} {
			if got := header.Get(name); got != want && test.status != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("%s %.100s: %s is %q, want %q", test.method, test.path, name, got, want)
			}
		}
	}
}

func TestEachSettingReachesItsHandler(t *testing.T) {
	t.Parallel()
	const key = "0123456789abcdef0123456789abcdef"
	alice, err := token.Issue([]byte(key), []string{"private/a"}, "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		setting, method, target, body, header string
		status                                int
		says                                  string
	}{
		{"METRICS=", "GET", "/metrics", "", "", 404, ""},
		{"METRICS=false", "GET", "/metrics", "", "", 404, ""},
		{"METRICS=true", "GET", "/metrics", "", "", 200, "gin_sse_subscribers 0"},
		{"PUBLISH_TOKEN=", "POST", "/sse", "1", authorization, 403, "Publishing is off."},
		{"PUBLISH_TOKEN=other", "POST", "/sse", "1", authorization, 401, ""},
		{"PUBLISH_TOKEN=other", "POST", "/sse", "1", "Authorization: Bearer other", 202, ""},
		{"MAX_EVENT_BYTES=3", "POST", "/sse", "123", authorization, 202, ""},
		{"MAX_EVENT_BYTES=3", "POST", "/sse", "1234", authorization, 413, "up to 3 bytes"},
		{"SUBSCRIBE_KEY=", "GET", "/sse?follow=false&topic=private/a", "", "Authorization: Bearer " + alice, 403, "private topics are off"},
		{"SUBSCRIBE_KEY=" + key, "GET", "/sse?follow=false&topic=private/a", "", "", 401, ""},
		{"SUBSCRIBE_KEY=" + key, "GET", "/sse?follow=false&topic=private/a", "", "Authorization: Bearer " + alice, 200, `"expires":`},
		{"PUBLIC_TOPICS=news", "GET", "/sse?follow=false&topic=news", "", "", 200, ""},
		{"PUBLIC_TOPICS=news", "GET", "/sse?follow=false&topic=orders", "", "", 403, "private topics are off"},
		{"ALLOWED_ORIGINS=https://a.example", "GET", "/sse?follow=false", "", "Origin: https://a.example", 200, ""},
		{"ALLOWED_ORIGINS=https://a.example", "GET", "/sse?follow=false", "", "Origin: https://b.example", 403, "ALLOWED_ORIGINS"},
	} {
		p := with(t, test.setting)
		if _, text := p.wants(test.status, test.method, test.target, test.body, test.header, asJSON); !strings.Contains(text, test.says) {
			t.Errorf("%s: %s %s is answered with %q, want %q", test.setting, test.method, test.target, text, test.says)
		}
	}
	for setting, kept := range map[string]int{"HISTORY=": 2, "HISTORY=1": 1, "HISTORY_BYTES=0": 0} {
		p := with(t, setting)
		p.wants(http.StatusAccepted, http.MethodPost, "/sse", "1", authorization, asJSON)
		p.wants(http.StatusAccepted, http.MethodPost, "/sse", "2", authorization, asJSON)
		if got := p.events.Stats().Kept; got != kept {
			t.Errorf("%s: %d of 2 messages are kept, want %d", setting, got, kept)
		}
	}
	for setting, want := range map[string]string{
		"TRUSTED_PROXIES=":                      " client=127.0.0.1\n",
		"TRUSTED_PROXIES=10.0.0.0/8":            " client=127.0.0.1\n",
		"TRUSTED_PROXIES=10.0.0.0/8, 127.0.0.1": " client=203.0.113.7\n",
		"LOG_FORMAT=json":                       `"client":"127.0.0.1"}` + "\n",
	} {
		p := with(t, setting)
		p.wants(http.StatusOK, http.MethodHead, "/", "", "X-Forwarded-For: 203.0.113.7")
		p.log.Wait(t, "HEAD")
		if got := p.log.String(); !strings.HasSuffix(got, want) {
			t.Errorf("%s: the log has %q, want %q", setting, got, want)
		}
	}
}

func TestSecretsInFilesAreReadAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tokens")
	write := func(tokens string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(tokens), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old")
	p := with(t, "PUBLISH_TOKEN=", "PUBLISH_TOKEN_FILE="+file)
	p.wants(http.StatusAccepted, http.MethodPost, "/sse", "1", "Authorization: Bearer old", asJSON)
	write("new")
	p.secrets.Reload(time.Now())
	p.wants(http.StatusUnauthorized, http.MethodPost, "/sse", "1", "Authorization: Bearer old", asJSON)
	p.wants(http.StatusAccepted, http.MethodPost, "/sse", "1", "Authorization: Bearer new", asJSON)
}

func TestTheStatusPageHasPlacesOfItsOwn(t *testing.T) {
	t.Parallel()
	p := with(t, "MAX_CLIENTS=1", "KEEPALIVE=1s")
	stream, _ := testsse.Get(t, http.DefaultClient, p.url+"/sse", nil)
	p.wants(http.StatusServiceUnavailable, http.MethodGet, "/sse", "")
	p.wants(http.StatusOK, http.MethodGet, "/status", "")
	viewer, _ := testsse.Get(t, http.DefaultClient, p.url+"/status/sse", nil)
	for _, response := range []*http.Response{stream, viewer} {
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s is answered with %s", response.Request.URL, response.Status)
		}
		testsse.ReadUntil(t, response.Body, "\n:\n\n") // the comment against silence
	}
}

func TestASignalEndsEveryKindOfStreamProperly(t *testing.T) {
	t.Parallel()
	var problem string
	for range 20 { // a stop has 0.7 s, which may not be enough on a busy machine
		p := with(t)
		problem = ""
		var streams []*http.Response
		for _, path := range []string{"/sse", "/status/sse", "/sse?topic=a"} {
			stream, _ := testsse.Get(t, http.DefaultClient, p.url+path, nil)
			streams = append(streams, stream)
		}
		p.stop()
		for _, stream := range streams {
			if text, err := io.ReadAll(stream.Body); err != nil || !strings.HasSuffix(string(text), "\n\n") {
				problem = fmt.Sprintf("%s ended with %v after %q", stream.Request.URL.Path, err, text)
			}
		}
		if problem == "" {
			break
		}
	}
	if problem != "" {
		t.Error(problem)
	}
}

// Gin's init panics over a mode that it does not know. This test's own process imports what main.go does, and so has the
// order in which that is initialised.
func TestABadGinModeDoesNotPanicBeforeMain(t *testing.T) {
	t.Parallel()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	child.Env = []string{"GIN_MODE=production"}
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}
