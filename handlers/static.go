package handlers

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"

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
	tags := &etags{}
	return func(c *gin.Context) {
		path := c.Request.URL.Path
		name, ok := fileAt(path)
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
				to := url.URL{Path: path + "/", RawQuery: c.Request.URL.RawQuery}
				c.Redirect(http.StatusMovedPermanently, to.String())
				c.Abort()
			}
			return
		}

		c.Abort()
		if c.Request.Method != http.MethodGet && c.Request.Method != http.MethodHead {
			c.Header("Allow", "GET, HEAD")
			MethodNotAllowed(c)
			return
		}
		tag, content, err := tags.of(name, file, info)
		if err != nil {
			_ = c.Error(fmt.Errorf("read %s: %w", name, err)) // for the log
			fail(c, http.StatusInternalServerError, "This file cannot be read.")
			return
		}
		c.Header("ETag", tag)
		c.Header("Cache-Control", "public, max-age=0") // a browser may keep it, and asks each time whether it changed
		http.ServeContent(c.Writer, c.Request, name, info.ModTime(), content)
	}
}

// fileAt returns the name of the file at a path, and whether there may be one: hidden files are not served.
func fileAt(path string) (name string, ok bool) {
	name = strings.TrimPrefix(path, "/")
	if strings.HasSuffix(path, "/") {
		name += "index.html"
	}
	return name, fs.ValidPath(name) && !strings.HasPrefix(name, ".") && !strings.Contains(name, "/.")
}

// isServed reports whether Static serves a file at a path.
func isServed(files fs.FS, path string) bool {
	name, ok := fileAt(path)
	if !ok {
		return false
	}
	info, err := fs.Stat(files, name)
	return err == nil && !info.IsDir()
}

// etags are the ETags of files. No request reads a whole file for one, except the first request for an embedded file.
type etags struct {
	embedded sync.Map // from name to ETag
}

// of returns the ETag of an open file, and the file's content. A file on disk is identified by its size and the time of
// its last change, which file systems keep to a fraction of a second. An embedded file has no time, but never changes, so
// its hash is computed once.
func (e *etags) of(name string, file fs.File, info fs.FileInfo) (tag string, content io.ReadSeeker, err error) {
	content, ok := file.(io.ReadSeeker)
	if !ok || !info.Mode().IsRegular() {
		return "", nil, errors.New("not a regular file")
	}
	if !info.ModTime().IsZero() {
		return fmt.Sprintf(`"%x-%x"`, info.ModTime().UnixNano(), info.Size()), content, nil
	}
	if known, ok := e.embedded.Load(name); ok {
		return known.(string), content, nil
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, content); err != nil {
		return "", nil, err
	}
	tag = fmt.Sprintf(`"%x"`, hash.Sum(nil)[:12])
	e.embedded.Store(name, tag)
	return tag, content, nil
}
