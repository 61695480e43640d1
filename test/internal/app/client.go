package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"gin-sse/internal/testwait"
)

// Get asks the server and returns the answer, whose body is closed when the test ends.
func (a *Server) Get(path string) *http.Response {
	a.T.Helper()
	ctx, cancel := context.WithCancel(a.T.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL+path, nil)
	if err != nil {
		a.T.Fatal(err)
	}
	response, err := Client(a.T).Do(request)
	if err != nil {
		a.T.Fatal(err)
	}
	a.T.Cleanup(func() { cancel(); response.Body.Close() })
	return response
}

// Token is the PUBLISH_TOKEN of tests that publish.
const Token = "s3cret"

// Publish sends JSON to every client of a server that was started with the token, and returns the id.
func (a *Server) Publish(body string) string {
	a.T.Helper()
	id, err := a.TryPublish(body)
	if err != nil {
		a.T.Fatal(err)
	}
	return id
}

// TryPublish is Publish that may fail.
func (a *Server) TryPublish(body string) (string, error) {
	response, err := PostTo(context.Background(), a.URL+"/sse", "", body)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var answer struct{ ID, Error string }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusAccepted {
		return "", fmt.Errorf("publish: status %d: %s", response.StatusCode, answer.Error)
	}
	return answer.ID, nil
}

// Client has connections of its own, and none of them are left when the test ends.
func Client(t testing.TB) *http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// Raw sends bytes as they are and returns the connection, which is closed when the test ends.
func (a *Server) Raw(text string) net.Conn {
	a.T.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+a.Port)
	if err != nil {
		a.T.Fatal(err)
	}
	a.T.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		a.T.Fatal(err)
	}
	return conn
}

// SubscribeKey signs the tokens of private topics.
const SubscribeKey = "0123456789abcdef0123456789abcdef"

// TokenFor is what "gin-sse token" prints.
func TokenFor(t *testing.T, topics ...string) string {
	t.Helper()
	cmd := Command(t, "SUBSCRIBE_KEY="+SubscribeKey)
	cmd.Args = append(append(cmd.Args, "token"), topics...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// PublishTo sends JSON to a topic.
func (a *Server) PublishTo(topic, body string) {
	a.T.Helper()
	response, err := PostTo(a.T.Context(), a.URL+"/sse?topic="+topic, "", body)
	if err != nil {
		a.T.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		a.T.Fatalf("publishing to %s: %s", topic, response.Status)
	}
}

// Ready waits until clients may come.
func (a *Server) Ready() *Server {
	a.T.Helper()
	a.AwaitStatus("/readyz", http.StatusOK)
	return a
}

// AwaitStatus asks until the answer has that status, and returns its body.
func (a *Server) AwaitStatus(path string, status int) (body string) {
	a.T.Helper()
	testwait.Until(a.T, func() string {
		response, err := http.Get(a.URL + path)
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if body = string(text); err != nil || response.StatusCode != status {
			return fmt.Sprintf("%s has status %d, want %d: %s %v", path, response.StatusCode, status, text, err)
		}
		return ""
	})
	return body
}

// Post publishes once, with a key.
func Post(ctx context.Context, url, key, body string) (*http.Response, error) {
	return PostTo(ctx, url+"/sse", key, body)
}

// PostTo sends JSON to an address, with a key if there is one.
func PostTo(ctx context.Context, address, key, body string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+Token)
	request.Header.Set("Content-Type", "application/json")
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	return http.DefaultClient.Do(request)
}

// Open asks for the address and returns the answer. It and its connection are closed when the test ends.
func Open(t *testing.T, transport *http.Transport, method, url string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); response.Body.Close(); transport.CloseIdleConnections() })
	return response
}
