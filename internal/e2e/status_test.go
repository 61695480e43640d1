package e2e

import (
	"bytes"
	"io"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

func TestStatusIsOpenWhenAllPlacesAreTakenAndShowsNoSecret(t *testing.T) {
	t.Parallel()
	a := start(t, "MAX_CLIENTS=1", "TICK_INTERVAL=0", "METRICS=true", "PUBLISH_TOKEN="+token)
	a.publish(`{"message":"kept"}`)
	a.get("/sse")
	if response := a.get("/sse"); response.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("a second client is answered with %d", response.StatusCode)
	}
	page := body(t, a.get("/status"))
	stream := readUntil(t, a.get("/status/sse").Body, `"uptime":"2 s"`) // it goes on by itself
	metrics := body(t, a.get("/metrics"))
	for where, test := range map[string]struct{ text, want string }{
		"the page":    {page, `id="subscribers">1<`},
		"the stream":  {stream, `"subscribers":"1"`},
		"the metrics": {metrics, "gin_sse_subscribers 1\n"},
	} {
		if !strings.Contains(test.text, test.want) {
			t.Errorf("no %q in %s: %s", test.want, where, test.text)
		}
		if secret := regexp.MustCompile(token + `|127\.0\.0\.1|\[?::1`).FindString(test.text); secret != "" {
			t.Errorf("%q in %s: %s", secret, where, test.text)
		}
	}
}

func TestMetricsAreOffUnlessAskedFor(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		env    []string
		status int
	}{
		{nil, http.StatusNotFound},
		{[]string{"METRICS="}, http.StatusNotFound},
		{[]string{"METRICS=false"}, http.StatusNotFound},
		{[]string{"METRICS=true"}, http.StatusOK},
	} {
		if response := start(t, test.env...).get("/metrics"); response.StatusCode != test.status {
			t.Errorf("with %q /metrics is answered with %d, want %d", test.env, response.StatusCode, test.status)
		}
	}
}

func TestStopEndsTheStreamsOfStatusProperly(t *testing.T) {
	t.Parallel()
	a := start(t)
	streams := []*http.Response{a.get("/status/sse"), a.get("/status/sse"), a.get("/sse")}
	if code := a.stop(syscall.SIGTERM); code != 0 || strings.Contains(a.out.String(), "cutting off") {
		t.Errorf("exit status %d; it said:\n%s", code, a.out.String())
	}
	for _, stream := range streams {
		if all, err := io.ReadAll(stream.Body); err != nil || !bytes.HasPrefix(all, []byte("retry:")) {
			t.Errorf("%s ended with %v after %q", stream.Request.URL.Path, err, all)
		}
	}
}
