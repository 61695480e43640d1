package handlers

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// lingering is how long a client has to close its side of a connection after the end of a stream.
const lingering = time.Second / 4

// hijacked is the writer of an answer whose connection net/http has let go of. It belongs to the
// handler's goroutine, which closes the connection.
type hijacked struct {
	gin.ResponseWriter // has the status and the header, which are sent
	conn               net.Conn
	buffers            *sync.Pool
	chunked            bool
	size               int
	err                error // of the first write that failed: there is none after it
}

// newBuffers makes what hijack takes: room for a chunk on its way, shared by streams as they write.
func newBuffers() *sync.Pool {
	return &sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 4<<10) }}
}

// hijack takes a connection of HTTP/1.x from net/http and sends the head of the answer. For as long as a
// stream lasts, net/http would keep 10 KB of buffers and a goroutine that reads. Without that one nobody
// sees the client leave, until a write fails.
func hijack(c *gin.Context, buffers *sync.Pool) (*hijacked, error) {
	conn, left, err := c.Writer.Hijack()
	if err != nil {
		return nil, err
	}
	*left.Reader, *left.Writer = bufio.Reader{}, bufio.Writer{} // net/http would keep what is in them
	h := &hijacked{ResponseWriter: c.Writer, conn: conn, buffers: buffers, chunked: c.Request.ProtoAtLeast(1, 1)}
	if h.err = conn.SetWriteDeadline(time.Now().Add(writeTimeout)); h.err == nil {
		_, h.err = conn.Write(h.head(c.Request.Close))
	}
	return h, nil // who writes next has the error
}

// head is what net/http would begin a stream with.
func (h *hijacked) head(last bool) []byte {
	var head bytes.Buffer
	version, framing := "1.0", ""
	if h.chunked {
		version, framing = "1.1", "Transfer-Encoding: chunked\r\n"
		if last {
			framing += "Connection: close\r\n"
		}
	}
	fmt.Fprintf(&head, "HTTP/%s %d %s\r\n%s", version, h.Status(), http.StatusText(h.Status()), framing)
	fmt.Fprintf(&head, "Date: %s\r\n", time.Now().UTC().Format(http.TimeFormat))
	_ = h.Header().WriteSubset(&head, map[string]bool{ // a Buffer takes all
		"Connection": last || !h.chunked, "Content-Length": true, "Date": true, "Transfer-Encoding": true,
	})
	head.WriteString("\r\n")
	return head.Bytes()
}

// Write sends p at once, as a chunk of its own.
func (h *hijacked) Write(p []byte) (int, error) {
	if h.err != nil || len(p) == 0 { // a chunk of no bytes would be the last
		return 0, h.err
	}
	if h.chunked {
		h.err = h.writeChunk(p)
	} else {
		_, h.err = h.conn.Write(p)
	}
	if h.err != nil {
		return 0, h.err
	}
	h.size += len(p)
	return len(p), nil
}

func (h *hijacked) writeChunk(p []byte) error {
	w := h.buffers.Get().(*bufio.Writer)
	defer h.buffers.Put(w)
	w.Reset(h.conn)
	defer w.Reset(nil)
	fmt.Fprintf(w, "%x\r\n", len(p)) // Flush has the error of each
	_, _ = w.Write(p)
	_, _ = w.WriteString("\r\n")
	return w.Flush()
}

// WriteString is Write.
func (h *hijacked) WriteString(s string) (int, error) { return h.Write([]byte(s)) }

// Size is the number of bytes written.
func (h *hijacked) Size() int { return h.size }

// Flush does nothing, as nothing waits.
func (h *hijacked) Flush() {}

// CloseNotify never tells: see hijack.
func (h *hijacked) CloseNotify() <-chan bool { return nil }

// end sends the last chunk and waits a moment for the client to close the connection. If there was
// something unread from it, such as another request, closing at once would make the system throw away
// what is still on its way to the client.
func (h *hijacked) end() {
	if h.err == nil && h.chunked {
		_, h.err = io.WriteString(h.conn, "0\r\n\r\n")
	}
	closer, ok := h.conn.(interface{ CloseWrite() error })
	if h.err != nil || !ok || closer.CloseWrite() != nil {
		return
	}
	err := h.conn.SetReadDeadline(time.Now().Add(lingering))
	for unread := make([]byte, 512); err == nil; { // small, as all streams end at the same time
		_, err = h.conn.Read(unread)
	}
}
