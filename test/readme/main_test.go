package readme

import (
	"testing"

	"gin-sse/test/internal/app"
)

func TestMain(m *testing.M) { app.Main(m) }
