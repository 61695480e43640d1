// Package proxies tests the program behind the proxies of docs/proxies.md.
package proxies

import (
	"testing"

	"gin-sse/test/internal/app"
)

func TestMain(m *testing.M) { app.Main(m) }
