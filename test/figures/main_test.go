// Package figures has the benchmarks of docs/figures.md, which measure whole servers.
package figures

import (
	"testing"

	"gin-sse/test/internal/app"
)

func TestMain(m *testing.M) { app.Main(m) }
