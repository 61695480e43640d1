package handlers_test

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
)

// counting is a file system that counts the bytes that are read from its files.
type counting struct {
	fs.FS
	read *atomic.Int64
}

func (c counting) Open(name string) (fs.File, error) {
	file, err := c.FS.Open(name)
	if err != nil {
		return nil, err
	}
	content, ok := file.(io.ReadSeeker)
	if !ok {
		return file, nil // a folder
	}
	return countingFile{file, content, c.read}, nil
}

type countingFile struct {
	fs.File
	content io.ReadSeeker
	read    *atomic.Int64
}

func (c countingFile) Seek(offset int64, whence int) (int64, error) {
	return c.content.Seek(offset, whence)
}

func (c countingFile) Read(p []byte) (int, error) {
	n, err := c.File.Read(p)
	c.read.Add(int64(n))
	return n, err
}

func TestARequestReadsNoMoreOfAFileThanItSends(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "large.mp4"), make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string]fs.FS{
		"on disk":  os.DirFS(dir),
		"embedded": fstest.MapFS{"large.mp4": {Data: make([]byte, size)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			read := new(atomic.Int64)
			server := static(t, counting{files, read})
			first, _ := ask(t, server, http.MethodHead, "/large.mp4", nil)
			tag := first.Header.Get("ETag")
			read.Store(0)
			for _, test := range []struct {
				method string
				header http.Header
				status int
			}{
				{http.MethodHead, nil, http.StatusOK},
				{http.MethodGet, http.Header{"If-None-Match": {tag}}, http.StatusNotModified},
				{http.MethodGet, http.Header{"Range": {"bytes=4000000-4000009"}}, http.StatusPartialContent},
				{http.MethodGet, http.Header{"Range": {"bytes=-10"}, "If-Range": {tag}}, http.StatusPartialContent},
			} {
				response, _ := ask(t, server, test.method, "/large.mp4", test.header)
				if response.StatusCode != test.status || response.Header.Get("ETag") != tag {
					t.Errorf("%s with %v: status %d and ETag %s, want %d and %s", test.method, test.header, response.StatusCode, response.Header.Get("ETag"), test.status, tag)
				}
			}
			if n := read.Load(); n != 20 {
				t.Errorf("%d bytes were read, want the 20 that were sent", n)
			}
		})
	}
}

func TestAnEditOnDiskChangesTheETagAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := static(t, os.DirFS(dir))
	path := filepath.Join(dir, "a.txt")
	seen := map[string]string{}
	at := time.Now()
	for n, text := range []string{"one", "two", "longer", "one"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		// The edits are a hundredth of a second apart, within the same second or not.
		if err := os.Chtimes(path, at, at.Add(time.Duration(n)*10*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		response, body := ask(t, server, http.MethodGet, "/a.txt", nil)
		tag := response.Header.Get("ETag")
		if body != text || tag == "" || seen[tag] != "" {
			t.Errorf("edit %d: body %q, and the ETag %s was that of %q", n, body, tag, seen[tag])
		}
		seen[tag] = text
	}
}

func BenchmarkRangeOfALargeFile(b *testing.B) {
	const size = 200 << 20
	path := filepath.Join(b.TempDir(), "large.mp4")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		b.Fatal(err)
	}
	app := gin.New()
	app.Use(handlers.Static(os.DirFS(filepath.Dir(path))))
	for b.Loop() {
		request, err := http.NewRequest(http.MethodGet, "/large.mp4", nil)
		if err != nil {
			b.Fatal(err)
		}
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", size/2, size/2+9))
		answer := &discard{header: http.Header{}}
		if app.ServeHTTP(answer, request); answer.status != http.StatusPartialContent {
			b.Fatalf("status %d", answer.status)
		}
	}
}

// discard is a http.ResponseWriter that keeps the status alone.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }
