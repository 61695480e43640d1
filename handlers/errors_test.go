package handlers_test

import (
	"net/http"
	"testing"
	"testing/fstest"

	"gin-sse/internal/hub"
)

func TestErrorsArePagesOrJSONAsAsked(t *testing.T) {
	t.Parallel()
	server := serve(t, fstest.MapFS{}, hub.New(100))
	const chromium = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
	for _, test := range []struct {
		method, path, accept string
		status               int
		typ, body            string
	}{
		{"GET", "/nope", "", 404, "text/html; charset=utf-8", "<title>Not Found</title><p>There is nothing at this address.</p>"},
		{"GET", "/nope", "*/*", 404, "text/html; charset=utf-8", "<title>Not Found</title><p>There is nothing at this address.</p>"},
		{"GET", "/nope", chromium, 404, "text/html; charset=utf-8", "<title>Not Found</title><p>There is nothing at this address.</p>"},
		{"GET", "/nope", "text/event-stream", 404, "text/html; charset=utf-8", "<title>Not Found</title><p>There is nothing at this address.</p>"},
		{"GET", "/nope", "application/json", 404, "application/json; charset=utf-8", `{"error":"There is nothing at this address."}`},
		{"GET", "/nope", "application/json, text/plain, */*", 404, "application/json; charset=utf-8", `{"error":"There is nothing at this address."}`},
		{"POST", "/nope", "application/json", 404, "application/json; charset=utf-8", `{"error":"There is nothing at this address."}`},
		{"DELETE", "/sse", "application/json", 405, "application/json; charset=utf-8", `{"error":"This address takes GET, HEAD, POST only."}`},
		{"DELETE", "/sse", chromium, 405, "text/html; charset=utf-8", "<title>Method Not Allowed</title><p>This address takes GET, HEAD, POST only.</p>"},
		{"GET", "/panic", "application/json", 500, "application/json; charset=utf-8", `{"error":"Something went wrong here. It is in the server's log."}`},
		{"GET", "/panic", chromium, 500, "text/html; charset=utf-8", "<title>Internal Server Error</title><p>Something went wrong here. It is in the server&#39;s log.</p>"},
	} {
		header := http.Header{}
		if test.accept != "" {
			header.Set("Accept", test.accept)
		}
		response, body := ask(t, server, test.method, test.path, header)
		if response.StatusCode != test.status || response.Header.Get("Content-Type") != test.typ || body != test.body {
			t.Errorf("%s %s with Accept %q: status %d, type %q, body %q; want %d, %q, %q", test.method, test.path, test.accept,
				response.StatusCode, response.Header.Get("Content-Type"), body, test.status, test.typ, test.body)
		}
		if got := response.Header.Get("Allow"); (got == "GET, HEAD, POST") != (test.status == http.StatusMethodNotAllowed) {
			t.Errorf("%s %s: Allow is %q", test.method, test.path, got)
		}
	}
}
