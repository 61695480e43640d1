// Command baseline is the tutorial's stream, and publishing, written by hand on net/http, for the benchmarks to compare
// with: no framework, no hub, no middleware, no deadlines, and only what the stream, a publisher and the page need.
package main

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// broadcast wakes all clients at once: each tick closes the channel that they wait for.
type broadcast struct {
	number  atomic.Uint64 // of the latest message that was published
	mu      sync.Mutex
	message []byte
	next    chan struct{}
}

const token = "s3cret" // that publishers send

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

// publish answers with an id if the body is JSON and its sender has the token. It keeps nothing.
func (b *broadcast) publish(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+token)) != 1 {
		http.Error(w, "publishing needs a token", http.StatusUnauthorized)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 65000))
	if err != nil || !json.Valid(body) {
		http.Error(w, "the body is not JSON", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprintf(w, `{"id":"baseline-%d"}`, b.number.Add(1))
}

func main() {
	b := &broadcast{next: make(chan struct{})}
	go b.run()
	http.HandleFunc("GET /sse", b.stream)
	http.HandleFunc("POST /sse", b.publish)
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
