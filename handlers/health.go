package handlers

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// Health tells a container runtime or a load balancer that the server answers.
func Health(c *gin.Context) {
	c.JSON(http.StatusOK, gin.H{"status": "ok"})
}
