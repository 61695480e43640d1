// Package replicas tests several servers that share their messages through NATS.
package replicas

import (
	"testing"

	"gin-sse/test/internal/app"
)

func TestMain(m *testing.M) { app.Main(m) }
