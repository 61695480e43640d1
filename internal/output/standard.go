package output

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// closeTimeout is how long the end of the process waits for its log.
const closeTimeout = time.Second / 4

// Handler returns a handler that writes each record as a line: of JSON if the format is json, otherwise of text.
func Handler(w io.Writer, format string) slog.Handler {
	if format == "json" {
		return slog.NewJSONHandler(w, nil)
	}
	return slog.NewTextHandler(w, nil)
}

// Standard makes packages slog and log write to standard output, in the format, through a Writer. From then on the
// process survives when the reader of standard output or standard error goes away. Call closeLog last: it writes the
// lines that are left, for a quarter of a second at most.
//
// greet logs that the program has started, with pairs of name and value as package slog takes them. In text its message
// is a line of its own, for people and for scripts that look for the tutorial's "Server running on …".
func Standard(format string) (greet func(message string, about ...any), closeLog func()) {
	signal.Ignore(syscall.SIGPIPE)
	out := New(os.Stdout, format)
	slog.SetDefault(slog.New(Handler(out, format)))
	greet = func(message string, about ...any) {
		if format != "json" {
			_, _ = io.WriteString(out, message+"\n") // a Writer takes everything
			message = "started"
		}
		slog.Info(message, about...)
	}
	return greet, func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		_ = out.Close(ctx) // there is no log left to report it in
	}
}
