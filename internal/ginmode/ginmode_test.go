package ginmode_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/ginmode"
)

// TestMain prints what this process sees instead of running tests, if it is a child of one. Importing gin makes it
// panic before that, unless ginmode is initialised first.
func TestMain(m *testing.M) {
	if os.Getenv("PRINT_GIN_MODE") != "" {
		value, ok := ginmode.Given()
		fmt.Printf("%q %t, and Gin is in mode %s", value, ok, gin.Mode())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestGinNeverSeesAModeThatItWouldPanicOver(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]string{
		"":                    `"" false, and Gin is in mode debug`,
		"GIN_MODE=":           `"" true, and Gin is in mode debug`,
		"GIN_MODE=debug":      `"debug" true, and Gin is in mode debug`,
		"GIN_MODE=release":    `"release" true, and Gin is in mode release`,
		"GIN_MODE=test":       `"test" true, and Gin is in mode debug`,
		"GIN_MODE=production": `"production" true, and Gin is in mode debug`,
		"GIN_MODE=Release":    `"Release" true, and Gin is in mode debug`,
		"GIN_MODE=release ":   `"release " true, and Gin is in mode debug`,
		"GIN_MODE=release\r":  `"release\r" true, and Gin is in mode debug`,
		`GIN_MODE="release"`:  `"\"release\"" true, and Gin is in mode debug`,
	} {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = []string{"PRINT_GIN_MODE=1", setting}
		if out, err := child.CombinedOutput(); err != nil || string(out) != want {
			t.Errorf("%q: %v, and it says %q, want %q", setting, err, strings.SplitN(string(out), "\n", 2)[0], want)
		}
	}
}
