package handlers_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
)

func TestSecretsOfAFileAreReadAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secrets")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one, two := strings.Repeat("1", 32), strings.Repeat("2", 32)
	write(one + "\n")
	tokens, err := handlers.SecretsFile(path)
	if err != nil {
		t.Fatal(err)
	}
	app := gin.New()
	app.POST("/events", handlers.Authorize(tokens), func(c *gin.Context) { c.Status(http.StatusNoContent) })
	server := serve(t, app)
	check := func(token string, want int) {
		t.Helper()
		response, _ := ask(t, server, http.MethodPost, "/events", http.Header{"Authorization": {"Bearer " + token}})
		if response.StatusCode != want {
			t.Errorf("%s is answered with %d, want %d", token, response.StatusCode, want)
		}
	}
	check(one, http.StatusNoContent)
	check(two, http.StatusUnauthorized)
	write(two)
	tokens.Reload(time.Now())
	check(one, http.StatusUnauthorized)
	check(two, http.StatusNoContent)
	write("too short")
	tokens.Reload(time.Now())
	check(two, http.StatusNoContent)

	for content, want := range map[string]string{"": "has no secret", "too short": "at least 32 bytes"} {
		write(content)
		if _, err := handlers.SecretsFile(path); err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("SecretsFile=%q cannot be used: ", path)) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %s", content, err, want)
		}
	}
}

func TestWithoutTokensNobodyMayPublish(t *testing.T) {
	t.Parallel()
	for name, tokens := range map[string]*handlers.SecretList{"nil": nil, "none": handlers.Secrets(), "empty": handlers.Secrets("")} {
		app := gin.New()
		app.POST("/events", handlers.Authorize(tokens))
		response, _ := ask(t, serve(t, app), http.MethodPost, "/events", http.Header{"Authorization": {"Bearer "}})
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("%s: answered with %d", name, response.StatusCode)
		}
	}
}
