package handlers

import (
	"net/http"
	"slices"
	"time"

	"github.com/gin-contrib/cors"
	"github.com/gin-contrib/secure"
	"github.com/gin-gonic/gin"

	"gin-sse/internal/stream"
)

// Secure sets the headers that are safe for any page, the user's own included. Our own pages have a stricter
// policy in a <meta> of their own.
func Secure() gin.HandlerFunc {
	return secure.New(secure.Config{
		ContentSecurityPolicy: "object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
		ContentTypeNosniff:    true,
		FrameDeny:             true,
		ReferrerPolicy:        "same-origin",
	})
}

// CORS lets pages of these origins read what the server answers, or does nothing if there are none. Pages of listed
// origins may use the user's cookies and tokens; with * nobody may.
func CORS(origins []string) gin.HandlerFunc {
	if len(origins) == 0 {
		return func(*gin.Context) {}
	}
	policy := cors.Config{
		AllowOrigins: origins,
		AllowMethods: []string{http.MethodGet},
		AllowHeaders: []string{"Cache-Control", "Last-Event-ID"}, // clients built on fetch send these
		MaxAge:       time.Hour,
	}
	if !slices.Contains(origins, "*") {
		policy.AllowCredentials = true
		policy.AllowHeaders = append(policy.AllowHeaders, "Authorization")
	}
	return cors.New(policy)
}

// WriteDeadline cuts off a client that reads its answer too slowly, or not at all.
func WriteDeadline(c *gin.Context) {
	w := &timedWriter{ResponseWriter: c.Writer, deadline: stream.Deadline{Conn: http.NewResponseController(c.Writer)}}
	if c.Request.ProtoMajor == 1 { // replace the deadline of the request before on this connection
		if err := w.deadline.Extend(); err != nil {
			_ = c.Error(err)
		}
	}
	c.Writer = w
}

// timedWriter gives each piece of an answer its time.
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
