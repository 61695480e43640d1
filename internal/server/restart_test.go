package server

import (
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
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
	go func() { _ = port.Serve(t.Context(), http.NotFoundHandler(), func() {}) }()
	if answer, err := io.ReadAll(conn); err != nil || len(answer) == 0 {
		t.Errorf("it is answered with %q and error %v", answer, err)
	}
}

func TestOneOfManyClientsThatReadsNothingMakesAStopNoLongerThanASecond(t *testing.T) {
	before := len(errorLog.Lines("cut off"))
	synctest.Test(t, func(t *testing.T) {
		port, stop := serving(t, streams(), func() {})
		const request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
		stalled := port.dial() // a pipe holds nothing, so the head of the answer is stuck already
		if _, err := io.WriteString(stalled, request); err != nil {
			t.Fatal(err)
		}
		client := client(port, (*http.Protocols).SetHTTP1)
		defer client.CloseIdleConnections()
		ended := make(chan time.Time, 500)
		for range cap(ended) {
			response, err := client.Get("http://localhost/")
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				if _, err := io.ReadAll(response.Body); err != nil {
					t.Error(err)
				}
				ended <- time.Now()
			}()
		}
		begin := time.Now()
		// The process then has a quarter of a second for its log.
		if took := stop(); took > 750*time.Millisecond {
			t.Errorf("the stop took %v", took)
		}
		for range cap(ended) {
			if at := <-ended; at.Sub(begin) > 0 {
				t.Errorf("another stream ended after %v", at.Sub(begin))
			}
		}
		stalled.Close()
		synctest.Wait()
	})
	if after := errorLog.Lines("cut off"); len(after) != before+1 {
		t.Errorf("the log has %q", after[before:])
	}
}

// net/http keeps such a connection for a second, if its client does not close it.
func TestStopDoesNotWaitForAnIdleHTTP2Connection(t *testing.T) {
	before := len(errorLog.Lines("cut off"))
	synctest.Test(t, func(t *testing.T) {
		port, stop := serving(t, http.NotFoundHandler(), func() {})
		conn := port.dial()
		const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
		go func() { _, _ = io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+settings) }()
		told := make(chan bool, 1)
		go func() {
			goAway := false
			for {
				var head [9]byte // of a frame: its length, its type and more
				if _, err := io.ReadFull(conn, head[:]); err != nil {
					told <- goAway // the connection is closed
					return
				}
				goAway = goAway || head[3] == 7
				_, _ = io.CopyN(io.Discard, conn, int64(head[1])<<8+int64(head[2]))
			}
		}()
		synctest.Wait()
		if took := stop(); took >= stopTimeout {
			t.Errorf("the stop took %v", took)
		}
		if !<-told {
			t.Error("the client was not told that the server goes away")
		}
		conn.Close()
	})
	if after := errorLog.Lines("cut off"); len(after) > before {
		t.Errorf("the log has %q", after[before:])
	}
}
