package server

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// control sets the options that every accepted connection inherits.
func control(_, _ string, conn syscall.RawConn) error {
	var err error
	outer := conn.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RXT_CONNDROPTIME, int(vanished.Seconds()))
	})
	return errors.Join(outer, err)
}
