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
	"regexp"
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
		address, isRead := c.Request.URL.Path, c.Request.Method == http.MethodGet || c.Request.Method == http.MethodHead
		name, info := find(files, address)
		switch {
		case info == nil:
			return
		case info.IsDir():
			if isRead && isServed(files, address+"/") {
				to := url.URL{Path: path.Base(address) + "/", RawQuery: c.Request.URL.RawQuery}
				c.Header("Location", to.String()) // relative, as a proxy may show the server below a path of its own
				c.AbortWithStatus(http.StatusMovedPermanently)
			}
			return
		case !isRead:
			c.Header("Allow", "GET, HEAD")
			MethodNotAllowed(c)
			return
		}
		file, err := files.Open(name)
		if err != nil {
			return
		}
		defer file.Close()
		content, ok := file.(io.ReadSeeker)
		if !ok {
			return
		}
		// A file on disk is identified by its size and the time of its last change, which file systems keep to a fraction of a second.
		tag := fmt.Sprintf("%x-%x", info.ModTime().UnixNano(), info.Size())
		if packed, ok := embedded[name]; ok {
			tag = packed.hash
			c.Writer.Header().Add("Vary", "Accept-Encoding")
			if packed.gzip != nil && c.GetHeader("Range") == "" && acceptsGzip.MatchString(c.GetHeader("Accept-Encoding")) {
				c.Header("Content-Encoding", "gzip")
				tag, content = tag+"-gzip", bytes.NewReader(packed.gzip)
			}
		}
		c.Abort()
		c.Header("ETag", `"`+tag+`"`)
		c.Header("Cache-Control", "public, max-age=0") // a browser may keep it, and asks each time whether it changed
		http.ServeContent(c.Writer, c.Request, name, info.ModTime(), content)
	}
}

// acceptsGzip matches a header Accept-Encoding that has gzip, unless its weight is 0.
var acceptsGzip = regexp.MustCompile(`(?i)(^|,)\s*gzip\s*(;\s*q=(1|0?\.\d*[1-9])[\d.]*\s*)?(,|$)`)

// find returns the file or the folder at an address, and its name. The info is nil if there is none. Hidden ones are not
// served.
func find(files fs.FS, address string) (name string, info fs.FileInfo) {
	name = strings.TrimPrefix(address, "/")
	if strings.HasSuffix(address, "/") {
		name += "index.html"
	}
	if !fs.ValidPath(name) || strings.HasPrefix(name, ".") || strings.Contains(name, "/.") {
		return name, nil
	}
	info, err := fs.Stat(files, name)
	if err != nil || !info.IsDir() && !info.Mode().IsRegular() {
		return name, nil
	}
	return name, info
}

// isServed reports whether Static serves a file at an address.
func isServed(files fs.FS, address string) bool {
	_, info := find(files, address)
	return info != nil && !info.IsDir()
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
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err // a request for the file will say so
		}
		hash := sha256.Sum256(content)
		all[name] = packed{fmt.Sprintf("%x", hash[:12]), compress(name, content)}
		return nil
	})
	return all
}

// compress returns a file of text with gzip, or nil if that makes it no smaller.
func compress(name string, text []byte) []byte {
	if kind := mime.TypeByExtension(path.Ext(name)); !strings.HasPrefix(kind, "text/") && !strings.Contains(kind, "json") && !strings.Contains(kind, "xml") {
		return nil
	}
	var small bytes.Buffer
	w, _ := gzip.NewWriterLevel(&small, gzip.BestCompression) // fails only for an unknown level
	if _, err := w.Write(text); err != nil || w.Close() != nil || small.Len() >= len(text) {
		return nil
	}
	return small.Bytes()
}
