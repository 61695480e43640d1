package handlers

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/event"
	"gin-sse/internal/stream"
)

// readAhead is how many bytes of an upload are read at once. The lines among them are published together.
const readAhead = 32 << 10

// publishLines sends each line of the body as an event as soon as it arrives. The request may last, and be silent,
// for as long as the publisher likes. If m ends the topic, the topic ends when the body does. With a key, each line
// has a key of its own, so that a whole body can be sent again.
//
// The answer counts the events that were sent and has the id of the last one. If a line could not be sent, the
// answer also has an error with the number of that line; the lines before it stay sent.
func publishLines(c *gin.Context, events *Events, m event.Message, parse func([]byte) (json.RawMessage, error)) {
	log := events.log
	c.Request = c.Request.WithContext(events.streams.Within(c.Request.Context()))
	connection := http.NewResponseController(c.Writer)
	if err := connection.SetReadDeadline(time.Time{}); err != nil { // the server's limit for a whole request
		_ = c.Error(fmt.Errorf("clear the read deadline: %w", err))
		refuse(c, http.StatusInternalServerError, "This server cannot read line by line.")
		return
	}
	stopping := stream.Stopping(c)
	interrupted := make(chan struct{})
	resume := context.AfterFunc(stopping, func() {
		defer close(interrupted)
		_ = connection.SetReadDeadline(time.Now()) // fails only if the client has left
	})
	defer func() {
		if !resume() {
			<-interrupted // on HTTP/2, net/http panics over a deadline that is set after the handler has returned
		}
	}()

	body := &endingReader{Reader: c.Request.Body}
	sent, id := 0, ""
	answer := func(status int, message string) {
		if status == http.StatusServiceUnavailable {
			c.Header("Retry-After", "5")
		}
		result := gin.H{"events": sent, "id": id}
		if message != "" {
			result["error"] = message
			because(c, message)
			if !body.ended {
				stopReading(c)
			}
		}
		c.AbortWithStatusJSON(status, result)
	}
	end := m.End
	m.End = false
	u := upload{
		body:     bufio.NewReaderSize(body, readAhead),
		text:     strings.EqualFold(c.ContentType(), gin.MIMEPlain),
		message:  m,
		max:      events.max,
		parse:    parse,
		stopping: stopping,
	}
	if err := u.begin(); err != nil {
		answer(http.StatusBadRequest, "The body cannot be published: "+err.Error()+".")
		return
	}
	for {
		messages, numbers, status, problem := u.arrived()
		if len(messages) > 0 {
			kept, lastID, err := log.Publish(c.Request.Context(), messages...)
			if kept > 0 {
				sent, id = sent+kept, lastID
			}
			if err != nil {
				status, message := explain(err)
				answer(status, fmt.Sprintf("Line %d: %s", numbers[kept], message))
				return
			}
		}
		switch {
		case status == http.StatusContinue:
			continue
		case status == http.StatusAccepted && end:
			if _, _, err := log.Publish(c.Request.Context(), event.Message{Topic: m.Topic, End: true, Replace: m.Replace && sent == 0, Key: u.key()}); err != nil {
				answer(explain(err))
				return
			}
		}
		answer(status, problem)
		return
	}
}

// endingReader notes that it has come to its end.
type endingReader struct {
	io.Reader
	ended bool
}

func (r *endingReader) Read(p []byte) (n int, err error) {
	n, err = r.Reader.Read(p)
	r.ended = r.ended || errors.Is(err, io.EOF)
	return n, err
}

// upload reads messages from a body, one from each line.
type upload struct {
	body     *bufio.Reader
	text     bool          // lines are text, which may be empty; otherwise they are JSON
	message  event.Message // what all messages have in common; its key is that of the whole body
	max      int64         // bytes of a line
	parse    func([]byte) (json.RawMessage, error)
	stopping context.Context // ends when the server stops
	number   int             // of the latest line
	rest     []byte          // was read, but belongs to the next line
}

// begin drops a byte order mark. It waits only for bytes that must come before the first line can be published.
func (u *upload) begin() error {
	for text := []byte(nil); ; {
		_, unreadable := u.body.Peek(len(text) + 1) // arrived reports the error, which comes again
		text = u.waiting()
		mark, undecided, err := beginning(text)
		if err != nil {
			return err
		}
		if !undecided || unreadable != nil || bytes.Contains(text, []byte("\n")) {
			_, _ = u.body.Discard(mark) // never fails: it has them
			return nil
		}
	}
}

// arrived waits for a line, and returns the messages of that line and of those that have arrived with it, and the
// numbers of their lines. The status is 100 while more lines may come, 202 at the end of the body, and otherwise the
// answer to a problem with the next line.
func (u *upload) arrived() (messages []event.Message, numbers []int, status int, problem string) {
	for {
		line, err := u.readLine()
		u.number++
		atEnd := errors.Is(err, io.EOF)
		switch {
		case errors.Is(err, errLineTooLong):
			return messages, numbers, http.StatusRequestEntityTooLarge, fmt.Sprintf("Line %d: %s", u.number, tooLong(u.max))
		case err != nil && !atEnd && u.stopping.Err() != nil:
			return messages, numbers, http.StatusServiceUnavailable, fmt.Sprintf("The server is stopping. Send the lines from number %d on again in a few seconds.", u.number)
		case err != nil && !atEnd:
			return messages, numbers, http.StatusBadRequest, fmt.Sprintf("Line %d did not arrive whole.", u.number)
		case atEnd && len(line) == 0:
			return messages, numbers, http.StatusAccepted, ""
		}
		if line = withoutEnd(line); u.text || len(bytes.TrimSpace(line)) > 0 { // NDJSON may have empty lines
			m := u.message
			m.Key = u.key()
			if m.Data, err = u.parse(line); err == nil && !u.text {
				err = misdirected(m.Topic, m.Data)
			}
			if err != nil {
				return messages, numbers, http.StatusBadRequest, fmt.Sprintf("Line %d cannot be published: %s.", u.number, strings.Replace(err.Error(), "at line 1, column", "at column", 1))
			}
			messages, numbers = append(messages, m), append(numbers, u.number)
		}
		if len(messages) > 0 && !bytes.Contains(u.waiting(), []byte("\n")) {
			return messages, numbers, http.StatusContinue, ""
		}
	}
}

// key returns the key of the latest line, or nothing if the body has no key.
func (u *upload) key() string {
	if u.message.Key == "" {
		return ""
	}
	return fmt.Sprint(u.message.Key, "\t", u.number) // a key of a client's has no tab
}

// readLine returns the next line with its end. The error is io.EOF if it is the last one. A line of text that is too
// long is cut, and goes on as the next line: one such line must not end the log of a build.
func (u *upload) readLine() (line []byte, err error) {
	line, u.rest = u.rest, nil
	for !bytes.HasSuffix(line, []byte("\n")) {
		if _, err := u.body.Peek(1); err != nil {
			return line, err
		}
		part := u.waiting()
		if i := bytes.IndexByte(part, '\n'); i >= 0 {
			part = part[:i+1]
		}
		before := len(line)
		line = append(line, part...)
		if int64(len(withoutEnd(line))) > u.max {
			if !u.text {
				return nil, errLineTooLong
			}
			taken := max(before, int(u.max))
			_, _ = u.body.Discard(taken - before) // never fails: it has them
			end := wholeCharacters(line[:u.max])
			u.rest = bytes.Clone(line[end:taken])
			return line[:end], nil
		}
		_, _ = u.body.Discard(len(part)) // never fails: it has them
	}
	return line, nil
}

// waiting returns what has arrived and was not read yet.
func (u *upload) waiting() []byte {
	waiting, _ := u.body.Peek(u.body.Buffered()) // never fails: it asks for no more than there is
	return waiting
}

// wholeCharacters returns how many bytes of text are left without a character that is cut off at its end. It is never 0.
func wholeCharacters(text []byte) int {
	for i := len(text) - 1; i > max(0, len(text)-utf8.UTFMax); i-- {
		if utf8.RuneStart(text[i]) {
			if utf8.FullRune(text[i:]) {
				break
			}
			return i
		}
	}
	return len(text)
}

// errLineTooLong says that a line is longer than an event may be.
var errLineTooLong = errors.New("line too long")

// withoutEnd returns a line without its newline, and without the one carriage return that may go before that.
func withoutEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}
