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

	"github.com/gin-gonic/gin"
)

// Assets returns one of the embedded folders, so that the binary runs anywhere; or in Gin's debug mode the folder
// of that name on disk if it has the given file, so that an edit shows on the next refresh.
func Assets(embedded fs.FS, name, file string) fs.FS {
	disk := os.DirFS(name)
	if _, err := fs.Stat(disk, file); err == nil && gin.IsDebugging() {
		return disk
	}
	folder, err := fs.Sub(embedded, name)
	if err != nil {
		panic(err) // only for a name that is no path
	}
	return folder
}

// Static serves files as express.static does, before any route: a file's own path, a folder's
// index.html, nothing hidden, no listings. What is not a file there is left to the routes.
func Static(files fs.FS) gin.HandlerFunc {
	return func(c *gin.Context) {
		path := c.Request.URL.Path
		name := strings.TrimPrefix(path, "/")
		if strings.HasSuffix(path, "/") {
			name += "index.html"
		}
		if !fs.ValidPath(name) || strings.HasPrefix(name, ".") || strings.Contains(name, "/.") {
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
			if _, err := fs.Stat(files, name+"/index.html"); err == nil {
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
		tag, content, err := fingerprint(file)
		if err != nil {
			_ = c.Error(fmt.Errorf("read %s: %w", name, err)) // for the log
			fail(c, http.StatusInternalServerError, "This file cannot be read.")
			return
		}
		c.Header("ETag", tag)
		c.Header("Cache-Control", "public, max-age=0") // keep it, and ask each time
		http.ServeContent(c.Writer, c.Request, name, info.ModTime(), content)
	}
}

// fingerprint reads the whole file for its ETag: embedded files have no date, and an edit within a
// second of another would not show in one.
func fingerprint(file fs.File) (string, io.ReadSeeker, error) {
	content, ok := file.(io.ReadSeeker)
	if !ok {
		return "", nil, errors.New("not a regular file")
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, content); err != nil {
		return "", nil, err
	}
	return fmt.Sprintf(`"%x"`, hash.Sum(nil)[:12]), content, nil
}
