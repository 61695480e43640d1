package output

import (
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// closeTimeout is how long the end of the process waits for its log.
const closeTimeout = time.Second / 4

// Standard returns a Writer for standard output, and makes package log write to standard error through another one.
// From then on the process survives when the reader of either goes away. Call closeBoth last: it writes the lines
// that are left, for a quarter of a second at most.
func Standard() (out *Writer, closeBoth func()) {
	signal.Ignore(syscall.SIGPIPE)
	out = New(os.Stdout)
	errors := New(os.Stderr)
	log.SetOutput(errors)
	return out, func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		_ = out.Close(ctx) // there is no log left to report it in
		_ = errors.Close(ctx)
		log.SetOutput(os.Stderr)
	}
}
