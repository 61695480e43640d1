// Package stream keeps one client's connection open for as long as there is something to send, at a
// third of the memory that net/http takes for it.
//
// A handler calls [Detach] with a function that writes. On HTTP/1.x that function gets the connection itself, without
// what net/http keeps beside it. A client that reads too slowly is cut off, one that leaves is noticed, and each stream
// that is not cut off ends properly. A [Group] stops all streams of a server and waits for them.
package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/gin-gonic/gin"
)

// maxBody is how much of a body is discarded before the request is refused.
const maxBody = 64 << 10

// Detach sends the head of the answer and runs send, which streams the rest with c.Stream. The c that send gets
// has a Writer and nothing else of the request. ctx ends when the server stops, when the client is known to have
// left, and at the deadline of the request's context, if that has one.
//
// On HTTP/1.x Detach returns at once, and send runs on a goroutine of its own after the handler has
// returned: everything that parsed the request becomes garbage, and a waiting client costs 8 KB instead
// of 26. So send must not use the handler's own context. On HTTP/2 Detach returns when send does.
//
// When send returns, the answer is ended properly. If send panics, the answer is cut off, so that the
// client does not take it for complete. If Detach returns an error, the client has been answered with an error
// or cut off, and send was not run.
func Detach(c *gin.Context, send func(ctx context.Context, c *gin.Context)) error {
	// Discard any body. net/http sends no answer before the body has ended, and a client might never end it.
	if _, err := io.Copy(io.Discard, http.MaxBytesReader(c.Writer, c.Request.Body, maxBody)); err != nil {
		return fail(c, http.StatusBadRequest, "A request for a stream must not have a body.", fmt.Errorf("discard the body: %w", err))
	}
	group := groupOf(c.Request.Context())
	if HasNoRoom(c.Request.Context()) {
		c.Header("Retry-After", "5")
		c.Header("Connection", "close")
		return fail(c, http.StatusServiceUnavailable, "There is no room for another stream. Try again in a few seconds.", errNoRoom)
	}
	if !group.reserve() {
		return fail(c, http.StatusServiceUnavailable, "The server is stopping.", errStopped)
	}
	if c.Request.ProtoMajor >= 2 {
		defer group.release()
		return inPlace(c, group, send)
	}
	w, err := hijack(c, group.buffers)
	if err != nil {
		group.release()
		return fail(c, http.StatusInternalServerError, "This server cannot stream.", fmt.Errorf("take the connection over: %w", err))
	}
	s := newDetached(w)
	c.Set(key{}, s)
	group.add(s)
	if deadline, ok := c.Request.Context().Deadline(); ok {
		timer := time.AfterFunc(time.Until(deadline), func() { s.finish(Expired) })
		s.atEnd(func(End) { timer.Stop() })
	}
	if stop := whenRevoked(c, func() { s.finish(Revoked) }); stop != nil {
		s.atEnd(func(End) { stop() })
	}
	go func() {
		defer group.remove(s)
		defer s.logPanic()
		send(s, &gin.Context{Writer: w})
		s.finish(group.complete()) // before the client has the end, at which it leaves
		w.end()
	}()
	return nil
}

// NoRoom returns a context for http.Server.ConnContext. No stream may begin on a connection with it: Detach answers with
// 503.
func NoRoom(ctx context.Context) context.Context { return context.WithValue(ctx, noRoom{}, true) }

// HasNoRoom reports whether a context comes from NoRoom.
func HasNoRoom(ctx context.Context) bool { return ctx.Value(noRoom{}) != nil }

type noRoom struct{}

// Causes of the end of a context on HTTP/2.
var (
	errRevoked = fmt.Errorf("the key of the token was removed: %w", context.DeadlineExceeded) // nothing more is to be handed over
	errSlow    = errors.New("the client reads too slowly, or not at all")
)

var errNoRoom = errors.New("the server may open no more files")

// inPlace is Detach for HTTP/2, where many streams share a connection and net/http has to keep it.
func inPlace(c *gin.Context, group *Group, send func(ctx context.Context, c *gin.Context)) error {
	conn := http.NewResponseController(c.Writer)
	// Clear the deadlines of the request, which would otherwise end the stream.
	if err := errors.Join(conn.SetReadDeadline(time.Time{}), conn.SetWriteDeadline(time.Time{})); err != nil {
		return fail(c, http.StatusInternalServerError, "This server cannot stream.", fmt.Errorf("set the deadlines of a stream through a %T, which may lack the method Unwrap: %w", c.Writer, err))
	}
	ctx, cancel := context.WithCancelCause(c.Request.Context())
	defer cancel(nil)
	alarm := newAlarm(conn, cancel)
	defer alarm.end()
	w := &sharedWriter{ResponseWriter: innermost(c.Writer), deadline: Deadline{Conn: alarm}}
	defer context.AfterFunc(group.stopping, func() { cancel(nil) })()
	if stop := whenRevoked(c, func() { cancel(errRevoked) }); stop != nil {
		defer stop()
	}
	w.Flush()
	returned := false
	defer func() {
		why := w.end(ctx, group)
		if why == Complete && !returned {
			why = Panicked
		}
		c.Set(key{}, why)
	}()
	send(ctx, &gin.Context{Writer: w})
	returned = true
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout)) // net/http sends the end of the answer after the handler has returned
	return nil
}

// fail answers with an error, and leaves the reason to the log.
func fail(c *gin.Context, status int, message string, reason error) error {
	c.Header("Content-Type", "") // otherwise Gin would keep the stream's type
	c.AbortWithStatusJSON(status, gin.H{"error": message})
	return c.Error(reason)
}

func (s *detached) logPanic() {
	if reason := recover(); reason != nil && reason != http.ErrAbortHandler {
		s.finish(Panicked)
		slog.Error("a panic cut off a stream", "reason", reason, "stack", string(debug.Stack()))
	}
}
