package examples

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gin-sse/internal/testlog"
	"gin-sse/internal/testport"
	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/child"
)

func TestAGinProgramOfOnesOwnServesStreamsAndEndsThemProperly(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(examples, "embed")
	text, err := os.ReadFile(filepath.Join(folder, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(text, []byte("\n")); lines >= 60 {
		t.Errorf("main.go has %d lines", lines)
	}
	program := filepath.Join(t.TempDir(), "shop")
	build := child.Command(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = folder
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\nIf go.mod of gin-sse has changed: (cd docs/examples/embed && go mod tidy)", err, out)
	}

	address := fmt.Sprint("127.0.0.1:", testport.Free(t))
	ctx, cancel := context.WithTimeout(context.Background(), testwait.Limit)
	defer cancel()
	cmd := child.Command(ctx, program)
	cmd.Env = []string{"ADDRESS=" + address, "PUBLISH_TOKEN=secret", "DATA_DIR=" + filepath.Join(t.TempDir(), "data"), "GIN_MODE=release"}
	out := new(testlog.Log)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	defer func() {
		cancel()
		if t.Failed() {
			t.Logf("it said:\n%s", out)
		}
	}()
	testwait.Until(t, func() string {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err.Error()
		}
		conn.Close()
		return ""
	})

	f := testsse.Open(t, http.DefaultClient, "http://"+address+"/events?topic=orders", nil)
	post := func(path string, header http.Header, form url.Values) (status int) {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		request.Header = header
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	if got := post("/orders", http.Header{}, url.Values{"item": {"tea"}}); got != http.StatusCreated {
		t.Errorf("an order is answered with %d", got)
	}
	if got := post("/events?topic=orders", http.Header{"Authorization": {"Bearer secret"}}, url.Values{"message": {"from outside"}}); got != http.StatusAccepted {
		t.Errorf("a message from outside is answered with %d", got)
	}
	if got := post("/events?topic=orders", http.Header{}, url.Values{"message": {"from a stranger"}}); got != http.StatusUnauthorized {
		t.Errorf("a message without the token is answered with %d", got)
	}
	f.Wants(`{"message":"Ordered: tea"}`, `{"message":"from outside"}`)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	f.WantsRest()
	if err := <-exited; err != nil {
		t.Errorf("it ended with %v", err)
	}
}
