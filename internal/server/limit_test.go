package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"gin-sse/internal/testwait"
)

// full returns the port of a process that may open eight files, and a function that takes a place on it.
func full(t *testing.T) (port *connections, take func() (client, conn net.Conn)) {
	t.Helper()
	listener, err := openPort(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port = newConnections(listener.(*net.TCPListener), false, 8)
	t.Cleanup(func() { port.Close() })
	return port, func() (client, conn net.Conn) {
		t.Helper()
		client, err := net.Dial("tcp", port.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		if conn, err = port.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return client, conn
	}
}

func TestBeyondThePlacesAConnectionIsBriefUntilOneIsFree(t *testing.T) {
	t.Parallel()
	port, take := full(t)
	const most = 8 - 1 - 2 // one is brief, and two are for other files
	var staying net.Conn
	for range most {
		_, staying = take()
	}
	if len(port.places) != most || len(port.brief) != 0 {
		t.Fatalf("%d connections stay and %d are brief", len(port.places), len(port.brief))
	}
	for range 3 { // each waits until the one before it is closed, as it sends nothing
		client, _ := take()
		if err := client.SetReadDeadline(time.Now().Add(testwait.Limit)); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("it is closed with %v", err)
		}
	}
	staying.Close()
	if _, conn := take(); conn.(interface{ isBrief() bool }).isBrief() {
		t.Error("a connection is brief while there is a place")
	}
}

// briefPort has brief connections alone, which last for as long as they need.
type briefPort struct{ *connections }

func (p briefPort) Accept() (net.Conn, error) {
	inner, err := p.AcceptTCP()
	if err != nil {
		return nil, err
	}
	p.brief <- struct{}{}
	return &conn{TCPConn: inner, port: p.connections, place: p.brief}, nil
}

func TestABriefConnectionAnswersAndEnds(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*http.Protocols, bool){
		"HTTP1": (*http.Protocols).SetHTTP1,
		"HTTP2": (*http.Protocols).SetUnencryptedHTTP2,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port, _ := full(t)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			handler := func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "well") }
			go func() {
				ended <- serve(ctx, briefPort{port}, Config{HTTP2: true}, http.HandlerFunc(handler), func() {})
			}()
			transport := &http.Transport{Protocols: new(http.Protocols)}
			set(transport.Protocols, true)
			client := http.Client{Transport: transport, Timeout: testwait.Limit}
			response, err := client.Get("http://" + port.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			if string(body) != "well" || err != nil {
				t.Errorf("%q and error %v", body, err)
			}
			select {
			case port.brief <- struct{}{}:
			case <-time.After(testwait.Limit):
				t.Error("the connection keeps its place")
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTheLimitOfOpenFilesIsOneLineAMinuteThatSaysWhatToDo(t *testing.T) {
	port, take := full(t)
	port.places = nil // all are taken
	before := len(errorLog.Lines("LimitNOFILE="))
	for range 3 {
		take()
	}
	if n := len(errorLog.Lines("LimitNOFILE=")) - before; n != 1 {
		t.Errorf("%d lines", n)
	}
	port.reported = time.Now().Add(-reminder)
	take()
	if n := len(errorLog.Lines("LimitNOFILE=")) - before; n != 2 {
		t.Errorf("%d lines after a minute", n)
	}
}

func TestClosingEndsTheWaitForAPlace(t *testing.T) {
	t.Parallel()
	port, _ := full(t)
	port.places, port.brief = nil, nil // all are taken, and none ever comes back
	client, err := net.Dial("tcp", port.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := port.Accept()
		ended <- err
	}()
	port.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	case <-time.After(testwait.Limit):
		t.Fatal("it still waits")
	}
}
