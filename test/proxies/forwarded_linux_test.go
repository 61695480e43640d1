package proxies

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"gin-sse/test/internal/app"
	"gin-sse/test/internal/proxy"
)

// Every address that begins with 127 is this machine's on Linux, so the client can have one of its own.
func TestTheLogHasTheAddressOfAClientBehindAProxy(t *testing.T) {
	t.Parallel()
	for _, p := range proxy.All {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			a := app.Start(t, "TRUSTED_PROXIES=127.0.0.1")
			url := p.Start(t, "127.0.0.1:"+a.Port)
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 7)}}
			app.Open(t, &http.Transport{DialContext: dialer.DialContext}, http.MethodHead, url)
			if line := a.Out.Wait(t, `method=HEAD path=/sse `); !strings.Contains(line+" ", " client=127.0.0.7 ") {
				t.Errorf("the log has %q", line)
			}
		})
	}
}
