package stream_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/stream"
)

// A stream that counts to three and then ends.
func ExampleDetach() {
	app := gin.New()
	app.GET("/count", func(c *gin.Context) {
		c.Header("Content-Type", "text/event-stream")
		_ = stream.Detach(c, func(ctx context.Context, c *gin.Context) {
			for n := 1; n <= 3 && ctx.Err() == nil; n++ { // the context ends when the client leaves or the server stops
				fmt.Fprintf(c.Writer, "data:%d\n\n", n)
				c.Writer.Flush()
			}
		})
	})
	server := httptest.NewServer(app)
	defer server.Close()

	response, err := http.Get(server.URL + "/count")
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(text))
	// Output:
	// data:1
	//
	// data:2
	//
	// data:3
}
