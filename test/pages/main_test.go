// Package pages tests the pages and their module in real browsers.
package pages

import (
	"testing"

	"gin-sse/test/internal/app"
	"gin-sse/test/internal/browser"
)

func TestMain(m *testing.M) { app.Main(m, browser.End) }
