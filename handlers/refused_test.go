package handlers_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
	"gin-sse/internal/testwait"
)

// Without a length of the body, net/http would wait for 256 KB of it before it answers.
func TestAPublisherThatIsSilentIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	var log batches
	app := gin.New()
	app.POST("/sse", handlers.Authorize(handlers.Secrets("secret")), handlers.PublishTo(&log, 1000))
	app.NoRoute(handlers.NotFound(app.Routes(), fstest.MapFS{}))
	server := serve(t, app)
	for name, test := range map[string]struct {
		request string
		status  int
	}{
		"no token":             {"POST /sse HTTP/1.1\r\nContent-Type: text/plain\r\n", 401},
		"a wrong query":        {"POST /sse?x=y HTTP/1.1\r\nAuthorization: Bearer secret\r\nContent-Type: text/plain\r\n", 400},
		"a wrong Content-Type": {"POST /sse HTTP/1.1\r\nAuthorization: Bearer secret\r\nContent-Type: text/html\r\n", 415},
		"a wrong line":         {"POST /sse HTTP/1.1\r\nAuthorization: Bearer secret\r\nContent-Type: application/x-ndjson\r\n", 400},
		"a wrong address":      {"POST /nope HTTP/1.1\r\n", 404},
	} {
		for _, expect := range []string{"", "Expect: 100-continue\r\n"} {
			t.Run(name+" "+expect, func(t *testing.T) {
				t.Parallel()
				conn, err := net.Dial("tcp", server.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if err := conn.SetDeadline(time.Now().Add(testwait.Limit)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(conn, test.request+"Host: x\r\nTransfer-Encoding: chunked\r\n"+expect+"\r\n3\r\nno\n\r\n"); err != nil {
					t.Fatal(err)
				}
				answers := bufio.NewReader(conn)
				response, err := http.ReadResponse(answers, nil)
				if err == nil && response.StatusCode == http.StatusContinue {
					response, err = http.ReadResponse(answers, nil)
				}
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				if _, err := io.ReadAll(response.Body); response.StatusCode != test.status || !response.Close || err != nil {
					t.Errorf("status %d, closes %t, error %v", response.StatusCode, response.Close, err)
				}
			})
		}
	}
}
