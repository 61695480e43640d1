package handlers

import (
	"log"
	"net/http"
	"runtime/debug"

	"github.com/gin-gonic/gin"
)

// NotFound answers for an address that has nothing.
func NotFound(c *gin.Context) {
	fail(c, http.StatusNotFound, "There is nothing at this address.")
}

// MethodNotAllowed answers for a method that the address does not take. The header Allow is set already.
func MethodNotAllowed(c *gin.Context) {
	fail(c, http.StatusMethodNotAllowed, "This address takes "+c.Writer.Header().Get("Allow")+" only.")
}

// InternalError answers for a handler that panicked. The log has the reason, but nothing of the request.
func InternalError(c *gin.Context, reason any) {
	log.Printf("a request was ended by a panic: %v\n%s", reason, debug.Stack())
	if c.Writer.Written() {
		panic(http.ErrAbortHandler) // cut the connection, so that the client does not take this for the end
	}
	fail(c, http.StatusInternalServerError, "Something went wrong here. It is in the server's log.")
}

// fail ends the request with an error: a page for a client that asks for HTML, as browsers do, or else JSON.
func fail(c *gin.Context, status int, message string) {
	c.Abort()
	c.Writer.Header().Add("Vary", "Accept")
	if c.NegotiateFormat(gin.MIMEJSON, gin.MIMEHTML) == gin.MIMEHTML {
		c.HTML(status, "error.html", gin.H{"status": status, "title": http.StatusText(status), "message": message})
		return
	}
	refuse(c, status, message)
}

// refuse ends the request with an error that a program can read.
func refuse(c *gin.Context, status int, message string) {
	c.AbortWithStatusJSON(status, gin.H{"error": message})
}

// unavailable ends the request with an error that will pass.
func unavailable(c *gin.Context, message string) {
	c.Header("Retry-After", "5")
	refuse(c, http.StatusServiceUnavailable, message)
}
