// Package disk kills servers that keep their messages on disk, and lets their disks fail.
package disk

import (
	"net/http"
	"testing"

	"gin-sse/test/internal/app"
	"gin-sse/test/internal/browser"
)

func TestMain(m *testing.M) {
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 64 // as many as there are publishers, or most would connect again for each message
	app.Main(m, browser.End)
}
