//go:build !unix

package server

import "net"

// openFilesLimit knows no limit on this system.
func openFilesLimit() (limit uint64, ok bool) { return 0, false }

// hasSent cannot tell on this system.
func hasSent(*net.TCPConn) bool { return true }
