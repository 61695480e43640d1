package e2e

import (
	"net"
	"net/http"
	"strings"
	"testing"
)

// Every address that begins with 127 is this machine's on Linux, so the client can have one of its own.
func TestTheLogHasTheAddressOfAClientBehindAProxy(t *testing.T) {
	t.Parallel()
	for _, p := range proxies {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			a := start(t, "TRUSTED_PROXIES=127.0.0.1")
			url := p.start(t, "127.0.0.1:"+a.port)
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 7)}}
			open(t, &http.Transport{DialContext: dialer.DialContext}, http.MethodHead, url)
			if line := a.out.Wait(t, `HEAD     "/sse"`); !strings.Contains(line, " 127.0.0.7 |") {
				t.Errorf("the log has %q", line)
			}
		})
	}
}
