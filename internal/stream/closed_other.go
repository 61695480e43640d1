//go:build !unix

package stream

import "net"

// hasClosed cannot tell here: a failed write does, later.
func hasClosed(net.Conn) bool { return false }
