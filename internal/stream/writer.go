package stream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

const (
	// buffered is how many bytes wait for a Flush. More than that are sent at once.
	buffered = 4 << 10

	// lengthRoom is the room in front of these bytes for the length of the chunk.
	lengthRoom = 8

	// lingering is how long a client has to close its side of the connection after the end of a stream.
	lingering = time.Second / 4
)

// writer is a gin.ResponseWriter on a connection that was taken over from net/http. It belongs to the goroutine
// of its stream.
type writer struct {
	conn     net.Conn
	deadline Deadline
	chunked  bool          // HTTP/1.1; in HTTP/1.0 the body ends with the connection
	told     bool          // Write has returned err; here it takes no memory of its own
	waiting  *bytes.Buffer // bytes that wait for a Flush, or nil
	buffers  *sync.Pool    // of such buffers, shared by the streams that write at the moment
	header   http.Header
	status   int
	size     int
	err      error  // of the first write that failed; nothing is sent after it
	failed   func() // called when err is set, if not nil
}

func newBuffers() *sync.Pool {
	return &sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, lengthRoom+buffered+2)) }}
}

// hijack takes a connection of HTTP/1.x over from net/http and sends the head of the answer. From then on
// nothing reads from the client.
func hijack(c *gin.Context, buffers *sync.Pool) (*writer, error) {
	conn, _, err := c.Writer.Hijack() // dropping the buffers makes them garbage, with all that net/http had for the connection
	if err != nil {
		return nil, err
	}
	w := &writer{
		conn: conn, deadline: Deadline{Conn: conn}, chunked: c.Request.ProtoAtLeast(1, 1), buffers: buffers,
		header: c.Writer.Header(), status: c.Writer.Status(),
	}
	_, _ = w.write(w.head(c.Request.Close), w.conn.Write) // the next write reports an error
	w.header = nil                                        // the header has been sent and may become garbage
	return w, nil
}

// head returns the head of the answer as net/http would send it.
func (w *writer) head(last bool) []byte {
	var head bytes.Buffer
	version, framing := "1.0", ""
	if w.chunked {
		version, framing = "1.1", "Transfer-Encoding: chunked\r\n"
		if last {
			framing += "Connection: close\r\n"
		}
	}
	fmt.Fprintf(&head, "HTTP/%s %d %s\r\n%s", version, w.status, http.StatusText(w.status), framing)
	fmt.Fprintf(&head, "Date: %s\r\n", time.Now().UTC().Format(http.TimeFormat))
	_ = w.header.WriteSubset(&head, map[string]bool{ // writing to a Buffer never fails
		"Connection": last || !w.chunked, "Content-Length": true, "Date": true, "Transfer-Encoding": true,
		"Content-Encoding": true, // a middleware that compresses does not see what is written here
	})
	head.WriteString("\r\n")
	return head.Bytes()
}

// Write keeps p until Flush if it is small, and sends it at once otherwise. After a write has failed, Write
// returns the error once, and then panics with http.ErrAbortHandler: that ends a stream whose function ignores
// errors.
func (w *writer) Write(p []byte) (int, error) {
	if w.waiting != nil && w.waiting.Len()+len(p) > lengthRoom+buffered {
		w.Flush()
	}
	if w.told {
		panic(http.ErrAbortHandler)
	}
	if w.err != nil {
		w.told = true
		return 0, w.err
	}
	w.size += len(p)
	if len(p) > buffered {
		return w.write(p, w.sendChunk)
	}
	if len(p) > 0 && w.waiting == nil {
		w.waiting = w.buffers.Get().(*bytes.Buffer)
		w.waiting.Reset()
		w.waiting.Write(make([]byte, lengthRoom))
	}
	if len(p) > 0 {
		w.waiting.Write(p)
	}
	return len(p), nil
}

// WriteString is Write for a string.
func (w *writer) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

// Flush sends what waits, as a chunk of its own.
func (w *writer) Flush() {
	if w.waiting == nil {
		return
	}
	data := w.waiting.Bytes()[lengthRoom:]
	if w.chunked {
		length := strconv.FormatInt(int64(len(data)), 16) + "\r\n"
		begin := lengthRoom - len(length)
		w.waiting.WriteString("\r\n")
		data = w.waiting.Bytes()[begin:]
		copy(data, length)
	}
	_, _ = w.write(data, w.conn.Write) // the next Write returns the error
	w.buffers.Put(w.waiting)
	w.waiting = nil
}

// sendChunk sends a piece of something large as a chunk of its own, without copying it.
func (w *writer) sendChunk(p []byte) (int, error) {
	if !w.chunked {
		return w.conn.Write(p)
	}
	chunk := net.Buffers{strconv.AppendInt(nil, int64(len(p)), 16), []byte("\r\n"), p, []byte("\r\n")}
	if _, err := chunk.WriteTo(w.conn); err != nil {
		return 0, err
	}
	return len(p), nil
}

// write sends p in pieces, with a deadline for each, and keeps the first error.
func (w *writer) write(p []byte, send func(p []byte) (int, error)) (n int, err error) {
	if w.err == nil {
		if n, w.err = w.deadline.Write(p, send); w.err != nil && w.failed != nil {
			w.failed()
		}
	}
	return n, w.err
}

// end sends the rest and the last chunk, and waits a moment for the client to close the connection. If the
// client had sent something that is unread, such as another request, closing at once would make the system
// discard what is still on its way to the client.
func (w *writer) end() {
	w.Flush()
	if w.chunked {
		_, _ = w.write([]byte("0\r\n\r\n"), w.conn.Write)
	}
	closer, ok := w.conn.(interface{ CloseWrite() error })
	if w.err != nil || !ok || closer.CloseWrite() != nil {
		return
	}
	err := w.conn.SetReadDeadline(time.Now().Add(lingering))
	for unread := make([]byte, 512); err == nil; { // small, because all streams may end at the same time
		_, err = w.conn.Read(unread)
	}
}

// The rest of a gin.ResponseWriter: the head has been sent, and the connection taken over.

func (w *writer) Status() int         { return w.status }
func (w *writer) Size() int           { return w.size }
func (w *writer) Written() bool       { return true }
func (w *writer) WriteHeader(int)     {}
func (w *writer) WriteHeaderNow()     {}
func (w *writer) Pusher() http.Pusher { return nil }

func (w *writer) CloseNotify() <-chan bool { return nil } // a failed write reports that the client has left

func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New("the connection has been taken over already")
}

// Header returns a header that is not sent any more.
func (w *writer) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}

// sharedWriter is the writer of a stream on HTTP/2. It belongs to the goroutine of its request.
type sharedWriter struct {
	gin.ResponseWriter
	deadline Deadline
	told     bool // Write has returned an error
}

// Write writes p in pieces, with a deadline for each. After an error it panics, as the Write of writer does.
func (w *sharedWriter) Write(p []byte) (int, error) {
	if w.told {
		panic(http.ErrAbortHandler)
	}
	n, err := w.deadline.Write(p, w.ResponseWriter.Write)
	w.told = err != nil
	return n, err
}

// WriteString is Write for a string.
func (w *sharedWriter) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

// Flush sends what was written; after it the stream may be silent for any time.
func (w *sharedWriter) Flush() {
	w.ResponseWriter.Flush()
	w.deadline.clear()
}

// end returns why the stream has ended, once its function has returned.
func (w *sharedWriter) end(ctx context.Context, group *Group) End {
	switch cause := context.Cause(ctx); {
	case cause == errRevoked:
		return Revoked
	case errors.Is(cause, context.DeadlineExceeded):
		return Expired
	case cause == errSlow:
		return Slow
	case group.complete() == Stopped:
		return Stopped
	case cause != nil || w.told:
		return Left
	}
	return Complete
}

// CloseNotify returns nil, as that of writer does. net/http would start a goroutine for it.
func (w *sharedWriter) CloseNotify() <-chan bool { return nil }

// innermost returns Gin's own writer. The writers around it belong to middleware. As on HTTP/1.x, a stream goes past them:
// one that sets a deadline for each write would end a silent stream.
func innermost(w gin.ResponseWriter) gin.ResponseWriter {
	for {
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		inner, ok := outer.Unwrap().(gin.ResponseWriter)
		if !ok {
			return w
		}
		w = inner
	}
}
