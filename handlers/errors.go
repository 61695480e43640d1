package handlers

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
)

// NotFound answers a request for an address where there is nothing. If that is a route or a file with a slash too many,
// the answer names the right address. It is no redirect: clients repeat a redirected POST as a GET, without its body.
func NotFound(routes gin.RoutesInfo, files fs.FS) gin.HandlerFunc {
	known := map[string]bool{}
	for _, route := range routes {
		known[route.Path] = true
	}
	return func(c *gin.Context) {
		message := "There is nothing at this address."
		clean := path.Clean(c.Request.URL.Path)
		for _, right := range []string{clean, clean + "/"} {
			if right != c.Request.URL.Path && (known[right] || isServed(files, right)) {
				to := url.URL{Path: right}
				message = "There is nothing at this address, which has a slash too many. Use " + to.String() + "."
				break
			}
		}
		fail(c, http.StatusNotFound, message)
	}
}

// MethodNotAllowed answers a request whose method the address does not accept. The header Allow is set already.
func MethodNotAllowed(c *gin.Context) {
	fail(c, http.StatusMethodNotAllowed, "This address accepts only "+c.Writer.Header().Get("Allow")+".")
}

// InternalError answers a request whose handler panicked. It logs the reason, but nothing of the request, which
// may hold credentials.
func InternalError(c *gin.Context, reason any) {
	slog.Error("a panic ended a request", "reason", reason, "stack", string(debug.Stack()))
	if c.Writer.Written() {
		because(c, "a panic cut off the answer")
		panic(http.ErrAbortHandler) // cut the connection, or the client would take a part of the answer for all of it
	}
	fail(c, http.StatusInternalServerError, "Something went wrong. The server's log says what.")
}

// fail ends the request with an error. Clients that ask for HTML, as browsers do, get a page; all others get JSON.
func fail(c *gin.Context, status int, message string) {
	c.Abort()
	c.Writer.Header().Add("Vary", "Accept")
	if c.NegotiateFormat(gin.MIMEJSON, gin.MIMEHTML) == gin.MIMEHTML {
		c.HTML(status, errorPage, gin.H{"status": status, "title": http.StatusText(status), "message": message, "home": home(c)})
		because(c, message)
		return
	}
	refuse(c, status, message)
}

// home returns the relative way from an address to the start, as a proxy may show the server below a path of its own.
func home(c *gin.Context) string {
	return "./" + strings.Repeat("../", max(0, strings.Count(c.Request.URL.EscapedPath(), "/")-1))
}

// refuse ends the request with an error in JSON.
func refuse(c *gin.Context, status int, message string) {
	if c.Request.ContentLength < 0 {
		stopReading(c)
	}
	because(c, message)
	answer(c, status, gin.H{"error": message})
}

// answer ends the request with JSON. An error that is temporary says when to try again.
func answer(c *gin.Context, status int, fields gin.H) {
	if status == http.StatusServiceUnavailable {
		c.Header("Retry-After", "5")
	}
	c.AbortWithStatusJSON(status, fields)
}

// because tells the log why a request is refused, unless it knows a better reason.
func because(c *gin.Context, message string) {
	if len(c.Errors) == 0 {
		_ = c.Error(errors.New(message))
	}
}

// stopReading makes net/http answer at once. On HTTP/1.x it would first wait for more of the body, and a publisher may send
// nothing for hours. No other request comes on the connection, because it would find its context canceled.
func stopReading(c *gin.Context) {
	if c.Request.ProtoMajor == 1 {
		c.Header("Connection", "close")
		_ = http.NewResponseController(c.Writer).SetReadDeadline(time.Now()) // an error changes nothing: the answer comes later
	}
}
