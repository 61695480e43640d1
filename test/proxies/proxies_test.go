package proxies

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

	"gin-sse/internal/testsse"
	"gin-sse/test/internal/app"
	"gin-sse/test/internal/proxy"
)

func TestEventsArriveOneByOneBehindAProxy(t *testing.T) {
	t.Parallel()
	for _, p := range proxy.All {
		for _, compressed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s compressed=%t", p, compressed), func(t *testing.T) {
				t.Parallel()
				a := app.Start(t, "TICK_INTERVAL=0", "PUBLISH_TOKEN="+app.Token)
				url := p.Start(t, "127.0.0.1:"+a.Port)
				response := app.Open(t, &http.Transport{DisableCompression: !compressed}, http.MethodGet, url)
				if want := compressed && p.Name == proxy.Nginx.Name; response.Uncompressed != want {
					t.Errorf("that the answer was compressed is %t, want %t", response.Uncompressed, want)
				}
				testsse.ReadFirst(t, response.Body)
				for n := range 5 {
					// Nothing more is sent until this one has arrived.
					a.Publish(fmt.Sprintf(`{"message":"number %d"}`, n))
					testsse.ReadUntil(t, response.Body, fmt.Sprintf("\ndata:{\"message\":\"number %d\"}\n\n", n))
				}
			})
		}
	}
}

func TestServerBehindAProxyNoticesClientsThatLeaveAndEndsItsStreams(t *testing.T) {
	t.Parallel()
	for _, p := range proxy.All {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			a := app.Start(t)
			url := p.Start(t, "127.0.0.1:"+a.Port)

			head := app.Open(t, new(http.Transport), http.MethodHead, url)
			if got := head.Header.Get("Content-Type"); head.StatusCode != http.StatusOK || got != "text/event-stream" {
				t.Errorf("HEAD is answered with %s and Content-Type %q", head.Status, got)
			}

			leaving := app.Open(t, new(http.Transport), http.MethodGet, url).Body
			testsse.ReadUntil(t, leaving, "Server Time: ")
			leaving.Close()
			a.Out.Wait(t, `method=GET path=/sse `)

			staying := app.Open(t, new(http.Transport), http.MethodGet, url).Body
			testsse.ReadUntil(t, staying, "Server Time: ")
			a.StopPolitely(syscall.SIGTERM)
			if text, err := io.ReadAll(staying); err != nil || len(text) > 0 && !bytes.HasSuffix(text, []byte("\n\n")) {
				t.Errorf("the stream ended with %v after %q", err, text)
			}
		})
	}
}

// The server itself refuses more than 16 KiB, and says why. Without their settings, nginx would stop at 8 KiB, and HAProxy at 15.
func TestAnAddressOf16KiBWith100TopicsPassesAProxy(t *testing.T) {
	t.Parallel()
	a := app.Start(t, "TICK_INTERVAL=0")
	for _, p := range proxy.All {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			query := "?follow=false" + strings.Repeat("&topic="+strings.Repeat("a", 150), 100)
			response := app.Open(t, new(http.Transport), http.MethodGet, p.Start(t, "127.0.0.1:"+a.Port)+query)
			if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK || !bytes.Contains(text, []byte(`{"live":true}`)) {
				t.Errorf("the answer is %s, %q, %v", response.Status, text, err)
			}
		})
	}
}

// nginx ends a silent stream after 60 s, HAProxy after the 50 s of its file; the comments come well before.
func TestSilentStreamStaysOpenBehindAProxy(t *testing.T) {
	t.Parallel()
	a := app.Start(t, "TICK_INTERVAL=0")
	var streams []io.ReadCloser
	for _, p := range proxy.All {
		url := p.Start(t, "127.0.0.1:"+a.Port)
		streams = append(streams, app.Open(t, new(http.Transport), http.MethodGet, url).Body)
	}
	for _, stream := range streams { // all wait for the same one
		testsse.ReadUntil(t, stream, "\n\n:\n\n")
	}
}

func TestDocsShowTheConfigurationsThatAreTested(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "proxies.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []proxy.Proxy{proxy.Nginx, proxy.HAProxy, proxy.Caddy} {
		config, err := os.ReadFile(filepath.Join("..", "..", "docs", p.Config))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := bytes.Cut(config, []byte("\n")) // without its first line, which says where it goes
		if n := bytes.Count(text, rest); n != 1 {
			t.Errorf("docs/proxies.md shows docs/%s %d times, want once", p.Config, n)
		}
	}
}

// section returns the block of code in docs/proxies.md that has the text.
func section(t *testing.T, text string) string {
	t.Helper()
	document, err := os.ReadFile(filepath.Join("..", "..", "docs", "proxies.md"))
	if err != nil {
		t.Fatal(err)
	}
	for i, block := range strings.Split(string(document), "```") {
		if i%2 == 1 && strings.Contains(block, text) {
			_, block, _ = strings.Cut(block, "\n") // without its language
			return block
		}
	}
	t.Fatalf("docs/proxies.md has no block with %q", text)
	return ""
}

func TestNginxPassesLinesOnAsTheyArrive(t *testing.T) {
	t.Parallel()
	a := app.Start(t, "TICK_INTERVAL=0", "PUBLISH_TOKEN="+app.Token)
	address := "127.0.0.1:" + a.Port
	p := proxy.Nginx
	p.Swap = [][2]string{{"    location / {\n", strings.ReplaceAll(section(t, "proxy_request_buffering"), "localhost:3000", address) + "\n    location / {\n"}}
	url := p.Start(t, address)
	stream := testsse.Open(t, app.Client(t), url+"?topic=builds/42", nil)
	body, lines := io.Pipe()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"?topic=builds/42&end=true", body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = http.Header{"Authorization": {"Bearer " + app.Token}, "Content-Type": {"text/plain"}}
	answered := make(chan string, 1)
	client := app.Client(t)
	go func() {
		response, err := client.Do(request)
		if err != nil {
			answered <- err.Error()
			return
		}
		response.Body.Close()
		answered <- response.Status
	}()
	for n := range 3 { // each arrives while the request goes on
		if _, err := fmt.Fprintf(lines, "line %d\n", n); err != nil {
			t.Fatal(err)
		}
		stream.Wants(fmt.Sprintf(`{"message":"line %d"}`, n))
	}
	lines.Close()
	if got := <-answered; got != "202 Accepted" {
		t.Errorf("the publisher is answered with %s", got)
	}
	stream.WantsRest()
}

// HAProxy 2.6 would keep the last bytes of each event back.
func TestHAProxyDoesNotCompressAStreamEvenIfItIsTold(t *testing.T) {
	t.Parallel()
	a := app.Start(t, "TICK_INTERVAL=0", "PUBLISH_TOKEN="+app.Token)
	p := proxy.HAProxy
	p.Swap = [][2]string{{"\nbackend gin_sse\n", "\nbackend gin_sse\n    compression offload\n    compression algo gzip\n    compression type text/javascript text/event-stream\n"}}
	url := p.Start(t, "127.0.0.1:"+a.Port)
	if script := app.Open(t, new(http.Transport), http.MethodGet, strings.TrimSuffix(url, "sse")+"app.js"); !script.Uncompressed {
		t.Error("it compresses nothing")
	}
	response := app.Open(t, new(http.Transport), http.MethodGet, url)
	if response.Uncompressed {
		t.Errorf("the stream is compressed: %v", response.Header)
	}
	testsse.ReadFirst(t, response.Body)
	a.Publish(`"hello"`)
	testsse.ReadUntil(t, response.Body, "data:\"hello\"\n\n")
}
