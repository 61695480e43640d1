package handlers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/hub"
)

// Authorize admits requests that carry the token as their bearer token. With an empty token it admits none.
func Authorize(token string) gin.HandlerFunc {
	want := sha256.Sum256([]byte(token))
	return func(c *gin.Context) {
		if token == "" {
			refuse(c, http.StatusForbidden, "Publishing is off. To turn it on, start the server with PUBLISH_TOKEN set to a secret.")
			return
		}
		scheme, given, _ := strings.Cut(c.GetHeader("Authorization"), " ")
		got := sha256.Sum256([]byte(strings.TrimSpace(given)))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			c.Header("WWW-Authenticate", `Bearer realm="gin-sse"`)
			refuse(c, http.StatusUnauthorized, "This takes the server's PUBLISH_TOKEN, in a header: Authorization: Bearer TOKEN.")
		}
	}
}

// Publisher sends a message to every client: a hub, or a replica of several servers.
type Publisher interface {
	// Publish sends the data as JSON, under a name if that is not empty, and returns the id of the message
	// once it is kept. A repeated key sends nothing and returns the original id. An empty key is never repeated.
	Publish(ctx context.Context, once, name string, data any) (id string, err error)
}

// Publish sends the body as an event to every client, under the name that ?event= gives, and answers with its
// id. The body is any JSON value, or a form, of up to max bytes. A publisher whose answer was lost repeats the
// request with the same Idempotency-Key: that sends nothing and gets the original answer.
func Publish(events Publisher, max int64) gin.HandlerFunc {
	return func(c *gin.Context) {
		name, once := c.Query("event"), c.GetHeader("Idempotency-Key")
		if err := hub.CheckName(name); err != nil {
			refuse(c, http.StatusBadRequest, fmt.Sprintf("event=%v.", err))
			return
		}
		if !isKey(once) {
			refuse(c, http.StatusBadRequest, "This Idempotency-Key is not taken. Send up to 255 letters, digits and signs, which no other event has, such as a UUID.")
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, max))
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			refuse(c, http.StatusRequestEntityTooLarge, fmt.Sprintf("The event is too large: this server takes up to %d bytes (MAX_EVENT_BYTES).", max))
			return
		case err != nil:
			refuse(c, http.StatusBadRequest, "The event did not arrive whole, or not in time.")
			return
		}

		var data any
		switch strings.ToLower(c.ContentType()) {
		case gin.MIMEJSON:
			data, err = fromJSON(body)
		case gin.MIMEPOSTForm:
			data, err = fromForm(body)
		default:
			c.Header("Accept-Post", gin.MIMEJSON+", "+gin.MIMEPOSTForm)
			refuse(c, http.StatusUnsupportedMediaType, fmt.Sprintf("Content-Type %q is not taken. Send JSON with Content-Type: application/json, or a form.", c.ContentType()))
			return
		}
		if err != nil {
			refuse(c, http.StatusBadRequest, "This cannot be sent: "+err.Error()+".")
			return
		}

		id, err := events.Publish(c.Request.Context(), once, name, data)
		switch {
		case errors.Is(err, hub.ErrTooLarge):
			refuse(c, http.StatusRequestEntityTooLarge, "The event is too large for NATS, which stores the events: raise max_payload there, or the stream's max_msg_size.")
			return
		case errors.Is(err, hub.ErrClosed):
			unavailable(c, "The server is stopping. Send the event again in a few seconds.")
			return
		case err != nil:
			unavailable(c, "The event could not be stored: "+err.Error()+". Send it again in a few seconds; with an Idempotency-Key it arrives once, even if it was stored after all.")
			return
		}
		c.JSON(http.StatusAccepted, gin.H{"id": id})
	}
}

// fromJSON returns the body unchanged if it is JSON in UTF-8.
func fromJSON(body []byte) (json.RawMessage, error) {
	if !utf8.Valid(body) {
		return nil, errors.New("the body is not JSON: it is not UTF-8")
	}
	var data json.RawMessage
	err := json.Unmarshal(body, &data)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		before := body[:max(syntax.Offset-1, 0)]
		line := bytes.Count(before, []byte("\n")) + 1
		column := len(before) - bytes.LastIndexByte(before, '\n')
		return nil, fmt.Errorf("the body is not JSON: %w, at line %d, column %d", err, line, column)
	}
	return data, err
}

// fromForm returns the fields of a form: message=hello becomes {"message":"hello"}.
func fromForm(body []byte) (gin.H, error) {
	if start := bytes.TrimSpace(body); len(start) > 0 && strings.ContainsRune(`{["`, rune(start[0])) {
		return nil, errors.New("it looks like JSON that was sent as a form; with curl, add -H 'Content-Type: application/json'")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, fmt.Errorf("the body is not a form: %w", err)
	}
	if len(form) == 0 {
		return nil, errors.New("the form is empty; send a field, such as message=hello")
	}
	fields := gin.H{}
	for name, values := range form {
		fields[name] = values[0]
		if len(values) > 1 {
			fields[name] = values
		}
	}
	return fields, nil
}

// isKey reports whether key can be an Idempotency-Key: empty, or printable ASCII, which NATS accepts too.
func isKey(key string) bool {
	return len(key) <= 255 && !strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' })
}
