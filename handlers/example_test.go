package handlers_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
)

// A program with streams of its own. With follow=false, a client gets what is kept, and then the end.
func ExampleOpen() {
	events, err := handlers.Open(handlers.Options{}) // in memory
	if err != nil {
		log.Fatal(err)
	}
	defer events.Close()
	app := gin.New()
	app.GET("/events", handlers.SSE(events))
	server := httptest.NewServer(app)
	defer server.Close()

	if _, err := events.Publish(context.Background(), "orders/7", gin.H{"message": "Shipped"}); err != nil {
		log.Fatal(err)
	}
	fmt.Print(data(server.URL + "/events?topic=orders/7&follow=false"))
	// Output:
	// data:{"live":false}
	// data:{"message":"Shipped"}
	// data:{"live":true}
}

// Other programs publish over HTTP, with a token.
func ExamplePublish() {
	events, err := handlers.Open(handlers.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer events.Close()
	app := gin.New()
	app.POST("/events", handlers.Authorize(handlers.Secrets("secret")), handlers.Publish(events))

	for _, token := range []string{"secret", "guessed"} {
		request := httptest.NewRequest(http.MethodPost, "/events?topic=orders/7", strings.NewReader("message=Shipped"))
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Authorization", "Bearer "+token)
		answer := httptest.NewRecorder()
		app.ServeHTTP(answer, request)
		fmt.Println(answer.Code)
	}
	// Output:
	// 202
	// 401
}

// A server stops: its streams end properly, and Close waits for the last one.
func ExampleEvents_Stop() {
	events, err := handlers.Open(handlers.Options{})
	if err != nil {
		log.Fatal(err)
	}
	app := gin.New()
	app.GET("/events", handlers.SSE(events))
	server := httptest.NewServer(app)
	server.Config.RegisterOnShutdown(events.Stop)

	response, err := http.Get(server.URL + "/events")
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := server.Config.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	events.Close()
	_, err = io.ReadAll(response.Body)
	fmt.Println("cut off:", err != nil)
	// Output: cut off: false
}

// data returns the lines of a stream that have data.
func data(url string) (lines string) {
	response, err := http.Get(url)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "data:") {
			lines += line
		}
	}
	return lines
}
