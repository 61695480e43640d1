// Command baseline is the tutorial's stream written by hand on net/http, for the benchmarks to
// compare with: no framework, no hub, no middleware, no deadlines, and only what the stream and the
// page need.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// broadcast wakes all clients at once: each tick closes the channel that they wait for.
type broadcast struct {
	mu      sync.Mutex
	message []byte
	next    chan struct{}
}

func (b *broadcast) run() {
	for now := range time.Tick(time.Second) {
		message, err := json.Marshal(map[string]string{"message": "Server Time: " + now.Format("3:04:05 PM")})
		if err != nil {
			log.Fatal(err)
		}
		b.mu.Lock()
		b.message = message
		close(b.next)
		b.next = make(chan struct{})
		b.mu.Unlock()
	}
}

func (b *broadcast) latest() ([]byte, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.message, b.next
}

func (b *broadcast) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Connection", "keep-alive")
	w.Header().Set("X-Accel-Buffering", "no")
	flusher := w.(http.Flusher)
	flusher.Flush()
	_, next := b.latest()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-next:
		}
		var message []byte
		message, next = b.latest()
		fmt.Fprintf(w, "data: %s\n\n", message)
		flusher.Flush()
	}
}

func main() {
	b := &broadcast{next: make(chan struct{})}
	go b.run()
	http.HandleFunc("GET /sse", b.stream)
	http.Handle("GET /", http.FileServer(http.Dir("public")))
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("Server running on http://%s\n", port.Addr())
	server := &http.Server{Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	if cert := os.Getenv("TLS_CERT_FILE"); cert != "" {
		log.Fatal(server.ServeTLS(port, cert, os.Getenv("TLS_KEY_FILE")))
	}
	log.Fatal(server.Serve(port))
}
