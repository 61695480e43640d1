package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-contrib/cors"
	"github.com/gin-gonic/gin"

	"gin-sse/internal/stream"
)

// Secure sets the headers that are safe for any page, the user's own included. Our own pages have a stricter policy in a
// <meta> of their own. A POST with a bearer token is a program's or a script's, as no browser sends one by itself, and its
// answer is never shown as a page.
func Secure() gin.HandlerFunc {
	return func(c *gin.Context) {
		if c.Request.Method == http.MethodPost && strings.HasPrefix(c.GetHeader("Authorization"), "Bearer ") {
			return
		}
		c.Header("Content-Security-Policy", "object-src 'none'; base-uri 'none'; frame-ancestors 'none'")
		c.Header("X-Content-Type-Options", "nosniff")
		c.Header("X-Frame-Options", "DENY")
		c.Header("Referrer-Policy", "same-origin")
	}
}

// errOrigin is for the log and the figures.
var errOrigin = errors.New("ALLOWED_ORIGINS")

// CORS lets pages of these origins read the server's answers, and refuses those of others. Pages of listed origins may
// also send cookies and tokens; with * no page may. Without origins CORS does nothing: browsers refuse then.
func CORS(origins []string) gin.HandlerFunc {
	if len(origins) == 0 {
		return func(*gin.Context) {}
	}
	policy := cors.Config{
		AllowMethods:  []string{http.MethodGet},
		AllowHeaders:  []string{"Cache-Control", "Last-Event-ID"}, // clients built on fetch send these
		ExposeHeaders: []string{"Allow", "Date", "ETag", "Retry-After", "WWW-Authenticate"},
		MaxAge:        time.Hour,
	}
	if slices.Contains(origins, "*") {
		policy.AllowAllOrigins = true
		return cors.New(policy)
	}
	policy.AllowOriginFunc = func(origin string) bool { return slices.Contains(origins, origin) } // AllowOrigins takes few schemes
	policy.AllowCredentials = true
	policy.AllowHeaders = append(policy.AllowHeaders, "Authorization")
	apply := cors.New(policy)
	return func(c *gin.Context) {
		origin, host := c.GetHeader("Origin"), c.Request.Host
		if origin == "" || origin == "http://"+host || origin == "https://"+host || policy.AllowOriginFunc(origin) {
			apply(c)
			return
		}
		origin = cut(origin, 100)
		_ = c.Error(fmt.Errorf("%w does not list %s", errOrigin, origin))
		c.Header("Vary", "Origin")
		refuse(c, http.StatusForbidden, fmt.Sprintf("Pages of %q may not use this server. Its setting ALLOWED_ORIGINS lists those that may.", origin))
	}
}

// maxHeader is how many bytes the first line and the headers of a request may have: what nginx and others let through.
const maxHeader = 16 << 10

// LimitHeader refuses requests with more than 16 KiB of headers, and says what to do. The server itself accepts more, as
// its own answer says nothing.
func LimitHeader(c *gin.Context) {
	size := len(c.Request.RequestURI)
	for name, values := range c.Request.Header {
		for _, value := range values {
			size += len(name) + len(value) + len(": \r\n")
		}
	}
	if size > maxHeader {
		fail(c, http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("The address and the headers have %d bytes together, and this server accepts up to %d. To follow many topics, name all below one with a wildcard, such as topic=orders/*.", size, maxHeader))
	}
}

// WriteDeadline cuts off a client that reads its answer too slowly, or not at all.
func WriteDeadline(c *gin.Context) {
	w := &timedWriter{ResponseWriter: c.Writer, deadline: stream.Deadline{Conn: http.NewResponseController(c.Writer)}}
	if c.Request.ProtoMajor == 1 { // replace the deadline that the previous request left on this connection
		if err := w.deadline.Extend(); err != nil {
			_ = c.Error(err)
		}
	}
	c.Writer = w
}

// timedWriter sets a deadline for each piece of an answer.
type timedWriter struct {
	gin.ResponseWriter
	deadline stream.Deadline
}

func (w *timedWriter) Write(p []byte) (int, error) {
	return w.deadline.Write(p, w.ResponseWriter.Write)
}

func (w *timedWriter) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

// Unwrap is for http.ResponseController.
func (w *timedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
