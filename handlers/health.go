package handlers

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"
)

// Health tells a container runtime that the server is up, and what is degraded if anything is.
func Health(ready func() error) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := ready(); err != nil {
			c.JSON(http.StatusOK, gin.H{"status": "degraded", "degraded": err.Error()})
			return
		}
		c.JSON(http.StatusOK, gin.H{"status": "ok"})
	}
}

// Ready tells a load balancer whether to send clients here. From the end of running on it should not.
func Ready(running context.Context, ready func() error) gin.HandlerFunc {
	return func(c *gin.Context) {
		if running.Err() != nil {
			refuse(c, http.StatusServiceUnavailable, "Not ready: the server is stopping.")
			return
		}
		if err := ready(); err != nil {
			refuse(c, http.StatusServiceUnavailable, "Not ready: "+err.Error()+".")
			return
		}
		c.JSON(http.StatusOK, gin.H{"status": "ok"})
	}
}
