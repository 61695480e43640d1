package handlers

import (
	"context"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/stream"
	"gin-sse/internal/token"
)

// private lets a request for a stream through if its token opens every topic that it asks for and that is not public. The
// stream then ends when the token expires, or its key is removed. Public topics need no token.
func private(tokens *token.Verifier, next gin.HandlerFunc) gin.HandlerFunc {
	return func(c *gin.Context) {
		want, problem := subscription(c)
		grant, err := tokens.Check(c.Request, want.topics.Names())
		var refused *token.Error
		switch {
		case errors.As(err, &refused):
			if refused.Challenge != "" {
				c.Header("WWW-Authenticate", refused.Challenge)
			}
			refuse(c, refused.Status, refused.Message)
		case problem != nil: // a token in the address is worse
			refuse(c, http.StatusBadRequest, problem.Error()+".")
		case err != nil: // Check has no other errors, but if it ever does, it must not let the client in
			_ = c.Error(err)
			refuse(c, http.StatusForbidden, "The token cannot be checked.")
		case grant.Accepted != nil:
			c.Header("Cache-Control", "no-store") // beside that of every stream
			c.Writer.Header().Add("Vary", "Authorization, Cookie")
			c.Set(subKey, grant.Subject)
			stream.EndWith(c, grant.Accepted)
			ctx, cancel := context.WithDeadline(c.Request.Context(), grant.Until)
			defer cancel()
			c.Request = c.Request.WithContext(ctx)
			next(c)
		default:
			next(c)
		}
	}
}
