package proxies

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/app"
	"gin-sse/test/internal/proxy"
)

// three starts three servers, and returns them and their addresses.
func three(t *testing.T, env ...string) (servers []*app.Server, addresses []string) {
	t.Helper()
	for range 3 {
		a := app.Start(t, env...)
		servers, addresses = append(servers, a), append(addresses, "127.0.0.1:"+a.Port)
	}
	return servers, addresses
}

func TestDrainingServerTakesNoNewClientsAndServesThoseThatItHasBehindHAProxyAndNginx(t *testing.T) {
	t.Parallel()
	for name, replicas := range map[string]func(...string) proxy.Proxy{"haproxy": proxy.HAProxyReplicas, "nginx": proxy.NginxReplicas} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers, addresses := three(t, "SHUTDOWN_DELAY=20s", "PUBLISH_TOKEN="+app.Token)
			url := replicas(addresses...).Start(t, "")
			stopping := servers[0]
			stream := app.Open(t, new(http.Transport), http.MethodGet, stopping.URL+"/sse").Body
			if err := stopping.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if text := stopping.AwaitStatus("/readyz", http.StatusServiceUnavailable); !strings.Contains(text, "the server is stopping") {
				t.Errorf("/readyz says %s", text)
			}
			stopping.Out.Wait(t, `msg="told to stop" streams=1 delay=20s`)
			stopping.AwaitStatus("/healthz", http.StatusOK)
			probes := 0
			probe := func() (here bool) { // asks for something through the proxy
				probes++
				path := fmt.Sprintf("/probe-%d", probes)
				response := app.Open(t, new(http.Transport), http.MethodGet, strings.TrimSuffix(url, "/sse")+path)
				if response.StatusCode != http.StatusNotFound {
					t.Fatalf("a client is answered with %s", response.Status)
				}
				testwait.For(t, "the request in a log", func() bool {
					return slices.ContainsFunc(servers, func(a *app.Server) bool { return len(a.Out.Lines("path="+path+" ")) > 0 })
				})
				return len(stopping.Out.Lines("path="+path+" ")) > 0
			}
			if name == "haproxy" { // which asks for /readyz
				testwait.Until(t, func() string {
					for range 10 {
						if probe() {
							return "new clients come to a server that is not ready"
						}
					}
					return ""
				})
			} else {
				probe()
			}
			stopping.Publish(`"everything still works"`)
			testsse.ReadUntil(t, stream, `data:"everything still works"`)
			testsse.ReadUntil(t, stream, "Server Time: ")
			if lines := stopping.Out.Lines("stopped"); len(lines) > 0 {
				t.Errorf("it has stopped before the end of the delay: %q", lines)
			}
			_, _ = io.ReadAll(stream) // to the end, of which other tests are
			stopping.Out.Wait(t, " ended=stopped ")
			stopping.Out.Wait(t, `msg="stopped; `)
			probe()
		})
	}
}

// A browser's own EventSource gives up for good at anything but 200.
func TestRestartingOneReplicaAfterTheOtherShowsNoClientAnErrorBehindNginx(t *testing.T) {
	t.Parallel()
	env := []string{"TICK_INTERVAL=50ms", "MAX_CLIENTS=0"}
	servers, addresses := three(t, env...)
	url := proxy.NginxReplicas(addresses...).Start(t, "")
	const clients = 100
	var round atomic.Int64
	var seen [clients]atomic.Int64 // the round of each client's latest event
	stop := make(chan struct{})
	var following sync.WaitGroup
	t.Cleanup(following.Wait) // also after a failure
	for i := range clients {
		following.Go(func() {
			client := app.Client(t)
			for {
				select {
				case <-stop:
					return
				default:
				}
				response, err := client.Get(url)
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				if response.StatusCode != http.StatusOK {
					t.Errorf("client %d is answered with %s", i, response.Status)
					response.Body.Close()
					return
				}
				for piece := make([]byte, 4096); ; {
					at := round.Load()
					if _, err := response.Body.Read(piece); err != nil {
						break
					}
					seen[i].Store(at)
				}
				response.Body.Close()
			}
		})
	}
	all := func() {
		t.Helper()
		now := round.Add(1)
		testwait.Until(t, func() string {
			missing := 0
			for i := range seen {
				if seen[i].Load() < now {
					missing++
				}
			}
			if missing > 0 && !t.Failed() {
				return fmt.Sprintf("%d clients get nothing", missing)
			}
			return ""
		})
	}
	all()
	for i := range servers {
		servers[i].Stop(syscall.SIGTERM)
		all()
		servers[i] = app.Start(t, append(env, "PORT="+servers[i].Port)...)
		all()
	}
	close(stop)
	for _, a := range servers {
		a.Stop(syscall.SIGTERM)
	}
	following.Wait()
}
