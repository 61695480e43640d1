package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

// CheckHealth requests the path from the server that runs with this configuration on this machine. It returns an
// error unless the answer is 200. It needs neither curl nor a resolver of names.
func CheckHealth(cfg Config, path string) error {
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{ // without the proxy that the environment may name
		// The certificate is issued for the name that browsers use, not for this machine's address.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		// Without a host, net dials this machine. A container may have no /etc/hosts, in which localhost could be looked up.
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port))))
		},
	}}
	defer client.CloseIdleConnections()
	response, err := client.Get(address(cfg, int(cfg.Port)) + path)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("health check: the server answers %s", response.Status)
	}
	return nil
}
