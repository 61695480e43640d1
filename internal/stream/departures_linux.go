package stream

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// departures learns from the system that a client has closed its connection, or its half of it. Nothing reads from a
// detached stream, so otherwise only a write would show it. One epoll instance serves all streams: a client costs its
// registration there, and no goroutine.
type departures struct {
	file *os.File        // the epoll instance, on which Go's own poller waits
	raw  syscall.RawConn // of the file
	left func(id uint64)
	done chan struct{} // closed when no more departures are noticed

	mu sync.Mutex // locked while departures are noticed, so that those before a call of notice are handled after it
}

// watch calls left with the id of each stream whose client leaves, until close is called.
func watch(left func(id uint64)) (*departures, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create an epoll instance: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // otherwise Go's poller would not take it
		_ = unix.Close(fd)
		return nil, fmt.Errorf("prepare the epoll instance: %w", err)
	}
	d := &departures{file: os.NewFile(uintptr(fd), "departures"), left: left, done: make(chan struct{})}
	if d.raw, err = d.file.SyscallConn(); err != nil {
		_ = d.file.Close()
		return nil, fmt.Errorf("prepare the epoll instance: %w", err)
	}
	go func() {
		defer close(d.done)
		_ = d.raw.Read(func(fd uintptr) bool { // ends with an error when the file is closed
			d.take(int(fd))
			return false
		})
	}()
	return d, nil
}

// add watches the connection of a stream. The system forgets it when it is closed. One that is no socket is left out.
func (d *departures) add(conn net.Conn, id uint64) {
	if encrypted, ok := conn.(*tls.Conn); ok {
		conn = encrypted.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return // it is closed, which the first write reports
	}
	event := unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))}
	_ = raw.Control(func(socket uintptr) { // fails for a closed connection
		_ = d.raw.Control(func(epoll uintptr) { // fails after close
			_ = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, int(socket), &event) // fails without memory: then a write reports it
		})
	})
}

// notice returns once left was called for all clients that have left by now.
func (d *departures) notice() {
	_ = d.raw.Control(func(fd uintptr) { d.take(int(fd)) }) // fails after close
}

// take calls left for the departures that are ready.
func (d *departures) take(epoll int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ready [128]unix.EpollEvent
	for {
		n, err := unix.EpollWait(epoll, ready[:], 0)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return
		}
		for _, event := range ready[:n] {
			d.left(uint64(uint32(event.Fd)) | uint64(uint32(event.Pad))<<32)
		}
	}
}

// close ends the watch and waits for that.
func (d *departures) close() {
	_ = d.file.Close() // fails if it is closed
	<-d.done
}
