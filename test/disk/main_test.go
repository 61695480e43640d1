// Package disk kills servers that keep their messages on disk, and lets their disks fail.
package disk

import (
	"testing"

	"gin-sse/test/internal/app"
	"gin-sse/test/internal/browser"
)

func TestMain(m *testing.M) { app.Main(m, browser.End) }
