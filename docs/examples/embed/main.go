// Command shop is a Gin program of its own, which serves streams of gin-sse beside its other routes.
package main

import (
	"cmp"
	"context"
	"log"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
)

func main() {
	events, err := handlers.Open(handlers.Options{DataDir: os.Getenv("DATA_DIR")}) // without it, messages are in memory
	if err != nil {
		log.Fatal(err)
	}

	app := gin.Default()
	app.GET("/events", handlers.SSE(events)) // for a page: new EventSource('/events?topic=orders')
	app.POST("/events", handlers.Authorize(handlers.Secrets(os.Getenv("PUBLISH_TOKEN"))), handlers.Publish(events))
	app.POST("/orders", func(c *gin.Context) {
		id, err := events.Publish(c.Request.Context(), "orders", gin.H{"message": "Ordered: " + c.PostForm("item")})
		if err != nil {
			_ = c.AbortWithError(http.StatusServiceUnavailable, err)
			return
		}
		c.JSON(http.StatusCreated, gin.H{"id": id})
	})

	server := &http.Server{Addr: cmp.Or(os.Getenv("ADDRESS"), "localhost:8080"), Handler: app}
	server.RegisterOnShutdown(events.Stop) // or Shutdown would wait for streams that do not end
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()

	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	select {
	case err := <-failed:
		log.Fatal(err)
	case <-interrupted.Done():
	}
	late, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(late); err != nil {
		log.Print(err)
	}
	events.Close() // waits until each client has the end of its stream
}
