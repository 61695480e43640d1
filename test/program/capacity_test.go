package program

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"gin-sse/internal/testsse"
	"gin-sse/test/internal/app"
)

// opens opens so many streams, checks that the next client is sent away, and that everything else still works.
func opens(t *testing.T, a *app.Server, clients int) {
	t.Helper()
	for n := range clients {
		if response := a.Get("/sse"); response.StatusCode != http.StatusOK {
			t.Fatalf("client %d of %d is answered with %s", n+1, clients, response.Status)
		}
	}
	for range 3 {
		response := a.Get("/sse")
		if text := testsse.ReadAll(t, response.Body); response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
			t.Errorf("the next client is answered with %s and %s", response.Status, text)
		}
	}
	for _, path := range []string{"/healthz", "/", "/status", "/status/sse"} {
		if response := a.Get(path); response.StatusCode != http.StatusOK {
			t.Errorf("%s is answered with %s", path, response.Status)
		}
	}
}

func TestWithoutMaxClientsThereAreAsManyAsOpenFilesAllow(t *testing.T) {
	t.Parallel()
	opens(t, app.StartLimited(t, 220), 20)
}

func TestWithoutMaxClientsThereAreAsManyAsAMemoryLimitAllows(t *testing.T) {
	t.Parallel()
	opens(t, app.Start(t, "GOMEMLIMIT=17MiB", "HISTORY_BYTES=0"), (17<<20)/8/(24<<10))
}

func TestWithMaxClientsZeroThereIsNoLimit(t *testing.T) {
	t.Parallel()
	a := app.StartLimited(t, 220, "MAX_CLIENTS=0", "GOMEMLIMIT=17MiB")
	for n := range 150 {
		if response := a.Get("/sse"); response.StatusCode != http.StatusOK {
			t.Fatalf("client %d is answered with %s", n+1, response.Status)
		}
	}
}

func TestMessagesThatDoNotFitIntoTheMemoryLimitAreAWarning(t *testing.T) {
	t.Parallel()
	const limit = 64 << 20
	a := app.Start(t, fmt.Sprint("GOMEMLIMIT=", limit))
	if want := fmt.Sprintf("HISTORY_BYTES=67108864 leaves no room for clients in the memory limit, of which %d bytes are for Go. Make it a third of that, HISTORY_BYTES=%d, or raise the limit.", limit, limit/3); !strings.Contains(a.Out.String(), want) {
		t.Errorf("it said %q, want %q", a.Out.String(), want)
	}
}
