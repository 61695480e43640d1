// Package examples tests the examples of the documentation, with the commands that it shows.
package examples

import (
	"testing"

	"gin-sse/test/internal/app"
	"gin-sse/test/internal/browser"
)

func TestMain(m *testing.M) { app.Main(m, browser.End) }
