//go:build !unix

package stream

import "net"

// hasClosed cannot tell on this system. A failed write reports the disconnect later.
func hasClosed(net.Conn) bool { return false }
