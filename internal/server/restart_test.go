package server

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

func TestAStartWaitsForThePortOfAServerThatIsStopping(t *testing.T) {
	t.Parallel()
	before, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(portWait/10, func() { before.Close() })
	port, err := Open(t.Context(), Config{Host: "127.0.0.1", Port: uint16(before.Addr().(*net.TCPAddr).Port)})
	if err != nil {
		t.Fatal(err)
	}
	port.Close()
}

func TestAClientThatComesBeforeTheServerServesIsAnswered(t *testing.T) {
	t.Parallel()
	port, err := Open(t.Context(), Config{Host: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", port.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	go func() { _ = port.Serve(t.Context(), http.NotFoundHandler(), io.Discard, func() {}) }()
	if answer, err := io.ReadAll(conn); err != nil || len(answer) == 0 {
		t.Errorf("it is answered with %q and error %v", answer, err)
	}
}
