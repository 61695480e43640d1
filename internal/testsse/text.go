package testsse

import (
	"io"
	"strings"
	"testing"
	"time"

	"gin-sse/internal/testwait"
)

// ReadUntil reads until it has seen the text, and returns all that it read. What arrived together with the text is read
// as well, so the next call goes on after that.
func ReadUntil(t testing.TB, r io.ReadCloser, text string) string {
	t.Helper()
	defer time.AfterFunc(testwait.Limit, func() { r.Close() }).Stop()
	var all []byte
	for buffer := make([]byte, 4096); ; {
		n, err := r.Read(buffer)
		if all = append(all, buffer[:n]...); strings.Contains(string(all), text) {
			return string(all)
		}
		if err != nil {
			t.Fatalf("%v before %q; there is %q", err, text, all)
		}
	}
}

// ReadAll reads to the proper end.
func ReadAll(t testing.TB, r io.ReadCloser) string {
	t.Helper()
	defer time.AfterFunc(testwait.Limit, func() { r.Close() }).Stop()
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%v after %q", err, all)
	}
	return string(all)
}

// ReadFirst reads what each stream begins with, and returns the id in it: where the stream begins.
func ReadFirst(t testing.TB, r io.ReadCloser) (id string) {
	t.Helper()
	id, _ = CutFirst(t, ReadUntil(t, r, "\n\n"))
	return id
}

// CutFirst returns the id that the first block of a stream has, and what follows that block.
func CutFirst(t testing.TB, stream string) (id, rest string) {
	t.Helper()
	first, rest, whole := strings.Cut(stream, "\n\n")
	_, id, found := strings.Cut("\n"+first, "\nid:")
	if !whole || !found {
		t.Fatalf("the stream begins with %q, want a block with an id", first)
	}
	id, _, _ = strings.Cut(id, "\n")
	return id, rest
}
