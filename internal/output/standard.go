package output

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"sync"
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
	return text{slog.NewTextHandler(w, nil), w, &sync.Pool{New: func() any { return new([]byte) }}}
}

// text is slog's handler of text, with a way of its own for the lines of requests, which every publisher pays for. It writes
// the same in a third of the time.
type text struct {
	slog.Handler
	w       io.Writer
	buffers *sync.Pool
}

// Handle implements slog.Handler.
func (h text) Handle(ctx context.Context, r slog.Record) error {
	buffer := h.buffers.Get().(*[]byte)
	defer h.buffers.Put(buffer)
	line := appendTime(append((*buffer)[:0], "time="...), r.Time)
	line = append(append(line, " level="...), r.Level.String()...)
	line, plain := appendText(append(line, " msg="...), r.Message)
	r.Attrs(func(a slog.Attr) bool {
		line = append(append(append(line, ' '), a.Key...), '=')
		switch a.Value.Kind() {
		case slog.KindString:
			var simple bool
			line, simple = appendText(line, a.Value.String())
			plain = plain && simple
		case slog.KindInt64:
			line = strconv.AppendInt(line, a.Value.Int64(), 10)
		case slog.KindFloat64:
			line = strconv.AppendFloat(line, a.Value.Float64(), 'g', -1, 64)
		default:
			plain = false
		}
		return plain
	})
	if *buffer = line; !plain || r.Time.IsZero() {
		return h.Handler.Handle(ctx, r)
	}
	_, err := h.w.Write(append(line, '\n'))
	return err
}

// appendTime appends a time with milliseconds, as slog does: Go has a fast way for RFC 3339 alone.
func appendTime(line []byte, at time.Time) []byte {
	end := len(line) + len("2006-01-02T15:04:05.000")
	line = at.Truncate(time.Millisecond).Add(time.Millisecond/10).AppendFormat(line, time.RFC3339Nano)
	return append(line[:end], line[end+1:]...) // without the fourth digit, which kept the third
}

// appendText appends a text, in quotes if it has characters that mean something on a line. Only what is printable ASCII is plain.
func appendText(line []byte, text string) (_ []byte, plain bool) {
	quote := text == ""
	for _, char := range []byte(text) {
		if char < ' ' || char > '~' {
			return line, false
		}
		quote = quote || char == ' ' || char == '=' || char == '"'
	}
	if quote {
		return strconv.AppendQuote(line, text), true
	}
	return append(line, text...), true
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
