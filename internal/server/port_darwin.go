package server

import "golang.org/x/sys/unix"

func setOptions(fd int) error {
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_RXT_CONNDROPTIME, int(vanished.Seconds()))
}
