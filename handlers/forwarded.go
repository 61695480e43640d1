package handlers

import (
	"net/netip"
	"strings"

	"github.com/gin-gonic/gin"
)

// clientAddress returns the client's IP address: the one that the trusted proxies name in X-Forwarded-For, or else that
// of the connection. Gin ignores the header if an address in it has a port or brackets, which some proxies add.
func clientAddress(c *gin.Context) string {
	const name = "X-Forwarded-For"
	given := c.Request.Header[name]
	if given == nil && c.Request.Header["X-Real-Ip"] == nil {
		return c.RemoteIP() // as for most requests, and cheaper
	}
	if len(given) > 0 {
		addresses := strings.Split(strings.Join(given, ","), ",")
		for i, address := range addresses {
			addresses[i] = withoutPort(address)
		}
		c.Request.Header.Set(name, strings.Join(addresses, ","))
	}
	return c.ClientIP()
}

// withoutPort returns the IP address alone of what a proxy has written, such as 203.0.113.7:41234 or [2001:db8::7]:41234.
// It returns anything else as it is.
func withoutPort(written string) string {
	text := strings.Trim(strings.TrimSpace(written), `"`)
	address, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil {
		both, err := netip.ParseAddrPort(text)
		if err != nil {
			return written
		}
		address = both.Addr()
	}
	return address.WithZone("").Unmap().String()
}
