package handlers

import (
	"bufio"
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
	err                error // of the first write that failed; there is no other after it
}

// newBuffers makes what hijack takes: room for a chunk on its way, shared by streams as they write.
func newBuffers() *sync.Pool {
	return &sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 4<<10) }}
}

// hijack takes a connection of HTTP/1.x from net/http, sends the head of the answer, and makes itself
// the context's writer. For as long as a stream lasts, net/http would keep 10 KB of buffers and a
// goroutine that reads. Without that one nobody sees the client leave, until a write fails.
func hijack(c *gin.Context, buffers *sync.Pool) (*hijacked, error) {
	conn, old, err := c.Writer.Hijack()
	if err != nil {
		return nil, fmt.Errorf("take the connection over: %w", err)
	}
	*old.Reader, *old.Writer = bufio.Reader{}, bufio.Writer{} // net/http would keep what is in them
	h := &hijacked{ResponseWriter: c.Writer, conn: conn, buffers: buffers, chunked: c.Request.ProtoAtLeast(1, 1)}
	if c.Request.Close {
		c.Header("Connection", "close")
	}
	if err := h.writeHead(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("send the head: %w", err)
	}
	c.Writer = h
	return h, nil
}

// writeHead sends what net/http would.
func (h *hijacked) writeHead() error {
	if err := h.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return h.buffered(func(w *bufio.Writer) {
		version := "1.0"
		if h.chunked {
			version = "1.1"
		}
		fmt.Fprintf(w, "HTTP/%s %d %s\r\n", version, h.Status(), http.StatusText(h.Status()))
		fmt.Fprintf(w, "Date: %s\r\n", time.Now().UTC().Format(http.TimeFormat))
		if h.chunked {
			_, _ = w.WriteString("Transfer-Encoding: chunked\r\n")
		}
		// HTTP/1.0 closes without a word.
		_ = h.Header().WriteSubset(w, map[string]bool{"Connection": !h.chunked, "Date": true, "Transfer-Encoding": true})
		_, _ = w.WriteString("\r\n")
	})
}

// Write sends p at once, as a chunk of its own.
func (h *hijacked) Write(p []byte) (int, error) {
	if h.err != nil || len(p) == 0 { // a chunk of no bytes would be the last
		return 0, h.err
	}
	if h.chunked {
		h.err = h.buffered(func(w *bufio.Writer) {
			fmt.Fprintf(w, "%x\r\n", len(p))
			_, _ = w.Write(p)
			_, _ = w.WriteString("\r\n")
		})
	} else {
		_, h.err = h.conn.Write(p)
	}
	if h.err != nil {
		return 0, h.err
	}
	h.size += len(p)
	return len(p), nil
}

// buffered sends what write writes, in one piece if it is small. The buffer has its error.
func (h *hijacked) buffered(write func(w *bufio.Writer)) error {
	w := h.buffers.Get().(*bufio.Writer)
	defer h.buffers.Put(w)
	w.Reset(h.conn)
	defer w.Reset(nil)
	write(w)
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
	half, ok := h.conn.(interface{ CloseWrite() error })
	if h.err != nil || !ok || half.CloseWrite() != nil || h.conn.SetReadDeadline(time.Now().Add(lingering)) != nil {
		return
	}
	_, _ = io.Copy(io.Discard, h.conn)
}
