package handlers_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
)

func TestTheLogHasTheAddressThatTheTrustedProxiesName(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		forwarded []string
		want      string
	}{
		{nil, "10.0.0.1"},
		{[]string{"203.0.113.7"}, "203.0.113.7"},
		{[]string{"203.0.113.7:41234"}, "203.0.113.7"},
		{[]string{"2001:db8::7"}, "2001:db8::7"},
		{[]string{"[2001:db8::7]"}, "2001:db8::7"},
		{[]string{"[2001:db8::7]:41234"}, "2001:db8::7"},
		{[]string{` "[2001:DB8::7]:41234" `}, "2001:db8::7"},
		{[]string{"fe80::7%eth0"}, "fe80::7"},
		{[]string{"::ffff:203.0.113.7"}, "203.0.113.7"},
		{[]string{"[::ffff:203.0.113.7]:1"}, "203.0.113.7"},
		// What a client sends itself stands before what the proxies add, in the same line or in one of its own.
		{[]string{"198.51.100.1:1, 203.0.113.7:2"}, "203.0.113.7"},
		{[]string{"198.51.100.1", "203.0.113.7:2"}, "203.0.113.7"},
		{[]string{"not an address, [2001:db8::7]:2"}, "2001:db8::7"},
		{[]string{"198.51.100.1:1,203.0.113.7:2, 10.0.0.9:3", "10.0.0.8"}, "203.0.113.7"},
		{[]string{"10.0.0.9:3,[::1]:4"}, "10.0.0.9"},
		// Nothing that can be used
		{[]string{"unknown"}, "10.0.0.1"},
		{[]string{"203.0.113.7:port"}, "10.0.0.1"},
		{[]string{"203.0.113.7:70000"}, "10.0.0.1"},
		{[]string{""}, "10.0.0.1"},
	} {
		var log bytes.Buffer
		app := gin.New()
		if err := app.SetTrustedProxies([]string{"10.0.0.0/8", "::1"}); err != nil {
			t.Fatal(err)
		}
		app.Use(handlers.RequestLog(logger(&log)))
		request := httptest.NewRequest(http.MethodGet, "/nope", nil)
		request.RemoteAddr = "10.0.0.1:4711"
		request.Header["X-Forwarded-For"] = test.forwarded
		app.ServeHTTP(httptest.NewRecorder(), request)
		if !strings.HasSuffix(log.String(), " client="+test.want+"\n") {
			t.Errorf("X-Forwarded-For %q: the log has %q, want %s", test.forwarded, log.String(), test.want)
		}
	}
}
