// Package readme makes the edits that README.md shows.
package readme

import (
	"testing"

	"gin-sse/test/internal/app"
)

func TestMain(m *testing.M) { app.Main(m) }
