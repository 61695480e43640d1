package server

import (
	"errors"

	"golang.org/x/sys/unix"
)

// unsent is how many bytes the kernel accepts for a connection beyond those on their way to the client. Without
// this limit, a client that stops reading holds megabytes of kernel memory until it is cut off.
const unsent = 128 << 10

func setOptions(fd int) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(vanished.Milliseconds())),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent),
	)
}
