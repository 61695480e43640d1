// Package program tests the program as its users run it: a process, its port, its signals, real clients.
package program

import (
	"testing"

	"gin-sse/test/internal/app"
)

func TestMain(m *testing.M) { app.Main(m) }
