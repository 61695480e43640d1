package stream

import (
	"context"
	"errors"
	"os"

	"github.com/gin-gonic/gin"
)

// End is why a stream ended, for logs and figures. It is empty for an answer that is no stream.
type End string

const (
	Complete End = "complete" // its function returned: its topics have ended, or it had all that was asked for
	Left     End = "left"     // the client has left
	Slow     End = "slow"     // the client read too slowly, or not at all
	Expired  End = "expired"  // its token has
	Revoked  End = "revoked"  // EndWith's context ended: the key of its token is no longer accepted
	Stopped  End = "stopped"  // the server stops
	Panicked End = "panic"
)

// failed returns why a write failed.
func failed(err error) End {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return Slow
	}
	return Left
}

// AtEnd calls f when the answer is complete. That is at once, or, if a handler of this request has detached a
// stream, when the stream has ended or its client has left. AtEnd is for middleware, after c.Next. f must not use c, which
// may serve another request by then.
func AtEnd(c *gin.Context, f func(End)) {
	switch value, _ := c.Get(key{}); stream := value.(type) {
	case *detached:
		stream.atEnd(f)
	case End: // on HTTP/2 it is over by now
		f(stream)
	default:
		f("")
	}
}

// key is the key of a request's stream in its gin.Context.
type key struct{}

// EndWith makes the stream that a handler of this request may detach end when ctx does. Nothing more is handed over then,
// as after a deadline.
func EndWith(c *gin.Context, ctx context.Context) { c.Set(revoked{}, ctx) }

// revoked is the key of that context.
type revoked struct{}

// whenRevoked calls f if the context of EndWith ends before stop is called.
func whenRevoked(c *gin.Context, f func()) (stop func() bool) {
	value, _ := c.Get(revoked{})
	if ctx, ok := value.(context.Context); ok {
		return context.AfterFunc(ctx, f)
	}
	return nil
}
