package handlers

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// NotFound answers for what is not there.
func NotFound(c *gin.Context) {
	fail(c, http.StatusNotFound, "There is nothing at this address.")
}

// MethodNotAllowed answers for a method that the address does not know; Allow is set already.
func MethodNotAllowed(c *gin.Context) {
	fail(c, http.StatusMethodNotAllowed, "This address takes "+c.Writer.Header().Get("Allow")+" only.")
}

// InternalError answers for a handler that panicked; what happened is in the log, not on the page.
func InternalError(c *gin.Context, _ any) {
	if c.Writer.Written() {
		panic(http.ErrAbortHandler) // too late for a page: cut the connection, so that nobody takes it for the end
	}
	fail(c, http.StatusInternalServerError, "Something went wrong here. It is in the server's log.")
}

// fail ends the request with an error page, or as JSON for a client that asks for JSON.
func fail(c *gin.Context, status int, message string) {
	c.Abort()
	c.Writer.Header().Add("Vary", "Accept")
	if c.NegotiateFormat(gin.MIMEHTML, gin.MIMEJSON) == gin.MIMEJSON {
		c.JSON(status, gin.H{"error": message})
		return
	}
	c.HTML(status, "error.html", gin.H{"status": status, "title": http.StatusText(status), "message": message})
}

// refuse ends the request with an error that a program can read.
func refuse(c *gin.Context, status int, message string) {
	c.AbortWithStatusJSON(status, gin.H{"error": message})
}
