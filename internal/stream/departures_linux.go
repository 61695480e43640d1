package stream

import (
	"crypto/tls"
	"log/slog"
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
	left func(id uint64) // is called when the client of a stream leaves

	begin sync.Once       // at the first stream
	file  *os.File        // the epoll instance, on which Go's own poller waits; nil if there is none
	raw   syscall.RawConn // of the file
	done  chan struct{}   // closed when no more departures are noticed

	mu sync.Mutex // locked while departures are noticed, so that those before a call of notice are handled after it
}

// start creates the epoll instance and the goroutine that waits for it.
func (d *departures) start() {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(fd, true) // otherwise Go's poller would not take it
		d.file = os.NewFile(uintptr(fd), "departures")
	}
	if err == nil {
		d.raw, err = d.file.SyscallConn()
	}
	if err != nil {
		slog.Warn("a client that leaves is noticed only when something is sent to it: prepare an epoll instance", "error", err)
		_ = d.file.Close() // fails if there is none
		d.file = nil
		return
	}
	d.done = make(chan struct{})
	go func() {
		defer close(d.done)
		_ = d.raw.Read(func(fd uintptr) bool { // ends with an error when the file is closed
			d.take(int(fd))
			return false
		})
	}()
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
	d.begin.Do(d.start)
	if d.file == nil {
		return
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
	d.begin.Do(d.start)
	if d.file == nil {
		return
	}
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

// close ends the goroutine and waits for that.
func (d *departures) close() {
	d.begin.Do(func() {}) // there is nothing to start any more
	if d.file != nil {
		_ = d.file.Close()
		<-d.done
	}
}
