package handlers

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"

	"github.com/gin-gonic/gin"
)

// Assets returns an embedded folder, so that the binary runs from anywhere. In Gin's debug mode it returns the
// folder of that name on disk instead, if that has the given file: an edit then shows on the next refresh.
func Assets(embedded fs.FS, name, file string) fs.FS {
	disk := os.DirFS(name)
	if _, err := fs.Stat(disk, file); err == nil && gin.IsDebugging() {
		return disk
	}
	folder, err := fs.Sub(embedded, name)
	if err != nil {
		panic(err) // the name is not a valid path, which is a mistake in the caller
	}
	return folder
}

// Static serves files as express.static does, where there is no route: a file at its own path, and a folder's index.html,
// but no hidden file and no listing. It leaves every other request to the next handler.
func Static(files fs.FS) gin.HandlerFunc {
	embedded := pack(files)
	return func(c *gin.Context) {
		address := c.Request.URL.Path
		name, ok := fileAt(address)
		if !ok {
			return
		}
		file, err := files.Open(name)
		if err != nil {
			return
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return
		}
		if info.IsDir() {
			isRead := c.Request.Method == http.MethodGet || c.Request.Method == http.MethodHead
			if _, err := fs.Stat(files, name+"/index.html"); err == nil && isRead {
				to := url.URL{Path: path.Base(address) + "/", RawQuery: c.Request.URL.RawQuery}
				c.Header("Location", to.String()) // relative, as a proxy may show the server below a path of its own
				c.AbortWithStatus(http.StatusMovedPermanently)
			}
			return
		}

		c.Abort()
		if c.Request.Method != http.MethodGet && c.Request.Method != http.MethodHead {
			c.Header("Allow", "GET, HEAD")
			MethodNotAllowed(c)
			return
		}
		content, ok := file.(io.ReadSeeker)
		if !ok || !info.Mode().IsRegular() {
			_ = c.Error(fmt.Errorf("read %s: not a regular file", name)) // for the log
			fail(c, http.StatusInternalServerError, "This file cannot be read.")
			return
		}
		// A file on disk is identified by its size and the time of its last change, which file systems keep to a fraction of a second.
		tag := fmt.Sprintf("%x-%x", info.ModTime().UnixNano(), info.Size())
		if packed, ok := embedded[name]; ok {
			tag = packed.hash
			c.Writer.Header().Add("Vary", "Accept-Encoding")
			if packed.gzip != nil && c.GetHeader("Range") == "" && acceptsGzip(c.GetHeader("Accept-Encoding")) {
				c.Header("Content-Encoding", "gzip")
				tag, content = tag+"-gzip", bytes.NewReader(packed.gzip)
			}
		}
		c.Header("ETag", `"`+tag+`"`)
		c.Header("Cache-Control", "public, max-age=0") // a browser may keep it, and asks each time whether it changed
		http.ServeContent(c.Writer, c.Request, name, info.ModTime(), content)
	}
}

// fileAt returns the name of the file at an address, and whether there may be one: hidden files are not served.
func fileAt(address string) (name string, ok bool) {
	name = strings.TrimPrefix(address, "/")
	if strings.HasSuffix(address, "/") {
		name += "index.html"
	}
	return name, fs.ValidPath(name) && !strings.HasPrefix(name, ".") && !strings.Contains(name, "/.")
}

// isServed reports whether Static serves a file at an address.
func isServed(files fs.FS, address string) bool {
	name, ok := fileAt(address)
	if !ok {
		return false
	}
	info, err := fs.Stat(files, name)
	return err == nil && !info.IsDir()
}

// packed is an embedded file that was read at the start: it never changes.
type packed struct {
	hash string
	gzip []byte // nil unless it is smaller
}

// pack reads the files of an embedded folder, which has no time. On disk an edit must show on the next refresh.
func pack(files fs.FS) map[string]packed {
	all := map[string]packed{}
	if root, err := fs.Stat(files, "."); err != nil || !root.ModTime().IsZero() {
		return all
	}
	_ = fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err // a request for the file will say so
		}
		hash := sha256.Sum256(text)
		all[name] = packed{hash: fmt.Sprintf("%x", hash[:12]), gzip: compress(name, text)}
		return nil
	})
	return all
}

// compress returns a file of text with gzip, or nil if that makes it no smaller.
func compress(name string, text []byte) []byte {
	kind := mime.TypeByExtension(path.Ext(name))
	if !strings.HasPrefix(kind, "text/") && !strings.Contains(kind, "json") && !strings.Contains(kind, "xml") {
		return nil
	}
	var small bytes.Buffer
	w, _ := gzip.NewWriterLevel(&small, gzip.BestCompression) // fails only for an unknown level
	if _, err := w.Write(text); err != nil || w.Close() != nil || small.Len() >= len(text) {
		return nil
	}
	return small.Bytes()
}

// acceptsGzip reads a header Accept-Encoding.
func acceptsGzip(header string) bool {
	for coding := range strings.SplitSeq(header, ",") {
		name, weight, _ := strings.Cut(coding, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			return weight == "" || strings.Trim(weight, " q=0.") != "" // not q=0
		}
	}
	return false
}
