package program

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/app"
)

// The server lets go of vanished clients within 60 s on an idle machine. This file comes early, so that other tests run
// while these wait.
func TestVanishedClientIsLetGo(t *testing.T) {
	t.Parallel()
	for name, env := range map[string]string{"with ticks": "TICK_INTERVAL=1s", "without ticks": "TICK_INTERVAL=0"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := app.Start(t, env)
			conn := a.Raw("GET /sse HTTP/1.1\r\nHost: x\r\n\r\n").(*net.TCPConn)
			testsse.ReadFirst(t, conn)
			vanish(t, conn)
			begin := time.Now()
			a.Out.WaitFor(t, `path=/sse `, 1, testwait.Limit)
			t.Logf("let go after %v", time.Since(begin))
		})
	}
}

// vanish lets no packet reach the connection any more, so that its end answers nothing: no
// acknowledgement, no FIN, no RST, as with a cable pulled.
func vanish(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	dropAll := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	outer := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &dropAll[0]})
	})
	if outer != nil || err != nil {
		t.Fatal(outer, err)
	}
}
