//go:build !linux && !darwin

package server

import "syscall"

// control does nothing: these systems lack the options that are set on others.
func control(string, string, syscall.RawConn) error { return nil }
