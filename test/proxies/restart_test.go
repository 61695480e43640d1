package proxies

import (
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"gin-sse/internal/testsse"
	"gin-sse/test/internal/app"
	"gin-sse/test/internal/proxy"
)

// restart stops a server, calls meanwhile while nobody listens, and starts it on the same port.
func restart(a *app.Server, meanwhile func()) {
	a.T.Helper()
	a.Stop(syscall.SIGTERM)
	meanwhile()
	app.Start(a.T, "PORT="+a.Port, "TICK_INTERVAL=0", "PUBLISH_TOKEN="+app.Token)
}

func TestProxyHoldsClientsThroughARestart(t *testing.T) {
	t.Parallel()
	for _, p := range proxy.All {
		if p.Name == proxy.Nginx.Name {
			continue // it cannot
		}
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			a := app.Start(t, "TICK_INTERVAL=0", "PUBLISH_TOKEN="+app.Token)
			url := p.Start(t, "127.0.0.1:"+a.Port)
			before := app.Open(t, new(http.Transport), http.MethodGet, url).Body
			testsse.ReadFirst(t, before)
			type answer struct {
				status string
				first  string
				err    error
			}
			const clients = 20
			answers := make(chan answer, clients)
			asked := make(chan struct{}, clients)
			restart(a, func() {
				for range clients {
					go func() {
						request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
						if err != nil {
							answers <- answer{err: err}
							return
						}
						asked <- struct{}{}
						response, err := app.Client(t).Do(request)
						if err != nil {
							answers <- answer{err: err}
							return
						}
						defer response.Body.Close()
						first := make([]byte, len("retry:"))
						_, err = io.ReadFull(response.Body, first)
						answers <- answer{response.Status, string(first), err}
					}()
				}
				for range clients {
					<-asked
				}
				select { // nobody listens, so nobody is answered
				case got := <-answers:
					t.Errorf("a client was answered: %+v", got)
				case <-time.After(500 * time.Millisecond):
				}
			})
			for range clients {
				if got := <-answers; got.err != nil || !strings.HasPrefix(got.status, "200 ") || got.first != "retry:" {
					t.Errorf("a client that came during the restart got %+v", got)
				}
			}
		})
	}
}

func TestNginxAnswersAnEventSourceDuringARestartSoThatItComesBack(t *testing.T) {
	t.Parallel()
	a := app.Start(t, "TICK_INTERVAL=0", "PUBLISH_TOKEN="+app.Token)
	p := proxy.Nginx
	address := "127.0.0.1:" + a.Port
	extra := strings.ReplaceAll(section(t, "@restarting"), "localhost:3000", address)
	p.Swap = [][2]string{{"    location / {\n", extra + "\n    location / {\n"}}
	url := p.Start(t, address)
	testsse.ReadFirst(t, app.Open(t, new(http.Transport), http.MethodGet, url).Body)
	restart(a, func() {
		response := app.Open(t, new(http.Transport), http.MethodGet, url)
		if text := testsse.ReadAll(t, response.Body); response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" || text != "retry:3000\n\n" {
			t.Errorf("GET is answered with %s, %q and %q", response.Status, response.Header.Get("Content-Type"), text)
		}
		response, err := app.Client(t).Post(url, "application/json", strings.NewReader(`"hello"`))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("POST is answered with %s", response.Status)
		}
	})
	testsse.ReadFirst(t, app.Open(t, new(http.Transport), http.MethodGet, url).Body)
}
