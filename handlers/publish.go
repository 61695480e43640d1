package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/event"
	"gin-sse/internal/secret"
)

// Authorize lets a request through if it has one of the tokens as its bearer token. Without a token, nobody may publish.
func Authorize(tokens *secret.List) gin.HandlerFunc {
	return func(c *gin.Context) {
		if len(tokens.All()) == 0 {
			refuse(c, http.StatusForbidden, "Publishing is off. To turn it on, start the server with PUBLISH_TOKEN set to a secret.")
			return
		}
		scheme, given, _ := strings.Cut(c.GetHeader("Authorization"), " ")
		given = strings.TrimSpace(given)
		if strings.EqualFold(scheme, "Bearer") && tokens.Has(given) {
			return
		}
		problem := "Publishing needs the server's PUBLISH_TOKEN, in a header: Authorization: Bearer TOKEN."
		if strings.EqualFold(scheme, "Bearer") && given != "" {
			problem = "The token in the header Authorization is not the server's PUBLISH_TOKEN."
		}
		c.Header("WWW-Authenticate", `Bearer realm="gin-sse"`)
		refuse(c, http.StatusUnauthorized, problem)
	}
}

// Publish sends the body to the topic that ?topic= names. JSON and a form are one event, of up to Options.MaxEventBytes. NDJSON
// and text are one event for each line. A request that is repeated with the same Idempotency-Key sends nothing twice
// and gets the same answer.
func Publish(events *Events) gin.HandlerFunc {
	return func(c *gin.Context) {
		m, err := addressed(c.Request.URL.RawQuery)
		if err != nil {
			refuseEvent(c, err)
			return
		}
		if m.Key = c.GetHeader("Idempotency-Key"); !isKey(m.Key) {
			refuse(c, http.StatusBadRequest, "This Idempotency-Key cannot be used. Send up to 255 printable ASCII characters, different for each event, such as a UUID.")
			return
		}
		if encoding := c.GetHeader("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
			refuse(c, http.StatusUnsupportedMediaType, fmt.Sprintf("Content-Encoding %q is not accepted. Send the body as it is.", cut(encoding, 100)))
			return
		}
		if m.Erases() && c.Request.ContentLength == 0 { // nothing is left of the topic but its end
			publishNow(c, events, m)
			return
		}
		kind, charset, err := mediaType(c.GetHeader("Content-Type"))
		if err != nil {
			refuse(c, http.StatusUnsupportedMediaType, err.Error()+".")
			return
		}
		check := checkUTF8
		if charset != nil {
			check = checkConverted
			if kind != gin.MIMEPOSTForm || !extendsASCII(charset) { // such a form is split first, then converted
				c.Request.Body = struct {
					io.Reader // hands over what has arrived without waiting for more
					io.Closer
				}{charset.NewDecoder().Reader(c.Request.Body), c.Request.Body}
				charset = nil
			}
		}
		switch kind {
		case gin.MIMEJSON:
			publishOne(c, events, m, fromJSON(check))
		case gin.MIMEPOSTForm:
			publishOne(c, events, m, fromForm(charset, check))
		case "application/x-ndjson":
			publishLines(c, events, m, false, fromJSON(check))
		case gin.MIMEPlain:
			publishLines(c, events, m, true, fromText)
		default:
			const accepted = gin.MIMEJSON + ", " + gin.MIMEPOSTForm + ", application/x-ndjson, " + gin.MIMEPlain
			c.Header("Accept-Post", accepted)
			refuse(c, http.StatusUnsupportedMediaType, fmt.Sprintf("Content-Type %q is not accepted. Send one of: %s.", cut(kind, 100), accepted))
		}
	}
}

// addressed returns a message without data: its topic, its name, and whether it ends the topic, as the query of a
// POST says. Anything unknown in the query is an error: a mistyped topic must not become a message to the default topic.
func addressed(query string) (m event.Message, err error) {
	if query == "" { // nothing to parse
		return m, nil
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return m, fmt.Errorf("the query cannot be read: %w", err)
	}
	err = eachParameter(values, func(name string, given []string) error {
		value, err := given[0], error(nil)
		isTrue := func() bool {
			if value != "true" {
				err = fmt.Errorf("%s=%q is unknown: it is %[1]s=true or left out", name, cut(value, 100))
			}
			return true
		}
		switch {
		case len(given) > 1:
			err = fmt.Errorf("%q is in the query twice; an event goes to one topic, so send another request for another topic", cut(name, 100))
		case value == "":
			err = fmt.Errorf("%q is empty in the query: give it a value, or leave it out", cut(name, 100))
		case name == "topic":
			m.Topic, err = value, event.CheckTopic(value)
		case name == "event":
			m.Name, err = value, event.CheckName(value)
		case name == "end":
			m.End = isTrue()
		case name == "replace":
			m.Replace = isTrue()
		default:
			err = unknownParameter(name, "POST", "topic, event, end and replace", map[string][]string{
				"topic=NAME":   {"topics", "channel", "channels", "room", "subject", "stream"},
				"event=NAME":   {"type", "name", "eventname", "eventtype"},
				"end=true":     {"close", "done", "last", "finish", "final"},
				"replace=true": {"retain", "retained", "overwrite", "rollup"},
			})
		}
		return err
	})
	if err != nil {
		return m, err
	}
	if m.End && m.Topic == "" {
		return m, errors.New("end=true needs a topic: the default topic does not end")
	}
	return m, nil
}

// publishOne sends the whole body as one event.
func publishOne(c *gin.Context, events *Events, m event.Message, parse parser) {
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, events.max))
	switch tooLarge := new(http.MaxBytesError); {
	case errors.As(err, &tooLarge):
		refuse(c, http.StatusRequestEntityTooLarge, tooLong(events.max))
		return
	case err != nil:
		refuse(c, http.StatusBadRequest, "The body was cut off or took too long.")
		return
	case len(body) == 0 && m.Erases():
		publishNow(c, events, m)
		return
	}
	if body, err = withoutMark(body); err == nil {
		m.Data, err = parse(body)
	}
	if err == nil {
		err = misdirected(m.Topic, m.Data)
	}
	if err != nil {
		refuseEvent(c, err)
		return
	}
	publishNow(c, events, m)
}

// publishNow publishes a message and answers with its id.
func publishNow(c *gin.Context, events *Events, m event.Message) {
	_, id, err := events.log.Publish(c.Request.Context(), m)
	if err != nil {
		status, problem := explain(err)
		refuse(c, status, problem)
		return
	}
	body := []byte(`{"id":"` + id + `"}`)
	c.Header("Content-Length", strconv.Itoa(len(body)))
	c.Data(http.StatusAccepted, "application/json; charset=utf-8", body)
	c.Writer.Flush() // the publisher need not wait for the line of the log
}

// refuseEvent ends a request that cannot become an event.
func refuseEvent(c *gin.Context, err error) {
	refuse(c, http.StatusBadRequest, "The event cannot be published: "+err.Error()+".")
}

// misdirected returns an error if the data names a topic and the address does not: other servers take the topic from the
// body, and here the event would go to the default topic.
func misdirected(topic string, data json.RawMessage) error {
	if topic != "" || !bytes.Contains(data, []byte(`"topic"`)) {
		return nil
	}
	var fields map[string]any
	_ = json.Unmarshal(data, &fields) // an error is about other values: a number may be too large for Go
	named, given := fields["topic"]
	if !given {
		return nil
	}
	name, _ := named.(string)
	if name == "" || event.CheckTopic(name) != nil {
		name = "orders/7"
	}
	return fmt.Errorf("the body has a field %q, but the topic belongs in the address, or the default topic would get the event: POST /sse?topic=%s", "topic", name)
}

// explain returns the answer for an event that the log did not accept.
func explain(err error) (status int, message string) {
	switch {
	case errors.Is(err, event.ErrEnded):
		return http.StatusConflict, "This topic has ended. Publish to another topic, such as one with a number in its name."
	case errors.Is(err, event.ErrKeyReused):
		return http.StatusUnprocessableEntity, "This Idempotency-Key was used for another event. Give each event a key of its own."
	case errors.Is(err, event.ErrTooLarge):
		return http.StatusRequestEntityTooLarge, "The event is too large for NATS, which stores the events: raise max_payload there, or the stream's max_msg_size."
	case errors.Is(err, event.ErrClosed):
		return http.StatusServiceUnavailable, "The server is stopping. Send the event again in a few seconds."
	default:
		return http.StatusServiceUnavailable, "The event could not be stored: " + err.Error() + ". Send it again in a few seconds; with an Idempotency-Key it arrives once, even if it was stored after all."
	}
}

func tooLong(max int64) string {
	return fmt.Sprintf("The event is too large: this server accepts up to %d bytes (MAX_EVENT_BYTES).", max)
}

// parser makes JSON, on one line, of a body or a line of one.
type parser func(body []byte) (json.RawMessage, error)

// fromJSON accepts JSON whose text passes the check.
func fromJSON(check func([]byte) error) parser {
	return func(body []byte) (json.RawMessage, error) {
		if err := check(body); err != nil {
			return nil, fmt.Errorf("the body is not JSON: %w", err)
		}
		var data bytes.Buffer
		data.Grow(len(body))
		if json.Compact(&data, body) == nil {
			return data.Bytes(), nil
		}
		err := json.Unmarshal(body, new(json.RawMessage)) // says where
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("the body is not JSON: %w, at %s", err, place(body, int(max(syntax.Offset-1, 0))))
		}
		return nil, err
	}
}

// fromText returns a line of text as JSON: hello is {"message":"hello"}. Bytes that are not UTF-8 become U+FFFD, as in
// a terminal: a single one must not end the log of a build.
func fromText(line []byte) (json.RawMessage, error) {
	return encode(struct {
		Message string `json:"message"`
	}{string(line)})
}

// encode returns the value as JSON. It does not escape <, because nothing here ends up in HTML.
func encode(value any) (json.RawMessage, error) {
	var encoded bytes.Buffer
	encoder := json.NewEncoder(&encoded)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return bytes.TrimSuffix(encoded.Bytes(), []byte("\n")), err
}

// isKey reports whether key can be an Idempotency-Key. It may be empty, which means no key. Otherwise it is printable
// ASCII, which NATS accepts too.
func isKey(key string) bool {
	return len(key) <= 255 && !strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' })
}
