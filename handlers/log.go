package handlers

import (
	"github.com/gin-gonic/gin"
)

// Log is replaced.
func Log() gin.HandlerFunc {
	return gin.LoggerWithConfig(gin.LoggerConfig{SkipPaths: []string{"/healthz", "/readyz", "/metrics"}})
}
