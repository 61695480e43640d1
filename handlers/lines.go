package handlers

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
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

// together is how many lines are published at once at most. After a long line, much more than readAhead may have arrived.
const together = 4096

// publishLines sends each line of the body as an event as soon as it arrives. The request may last, and be silent,
// for as long as the publisher likes. If m ends the topic, the topic ends when the body does. With a key, each line
// has a key of its own, so that a whole body can be sent again. Lines of text may be empty, and those of JSON may not.
//
// The answer counts the events that were sent and has the id of the last one. If a line could not be sent, the
// answer also has an error with the number of that line; the lines before it stay sent.
func publishLines(c *gin.Context, events *Events, m event.Message, text bool, parse parser) {
	c.Request = c.Request.WithContext(events.streams.Within(c.Request.Context()))
	connection := http.NewResponseController(c.Writer)
	if err := connection.SetReadDeadline(time.Time{}); err != nil { // the server's limit for a whole request
		_ = c.Error(fmt.Errorf("clear the read deadline: %w", err))
		refuse(c, http.StatusInternalServerError, "This server cannot read line by line.")
		return
	}
	u := upload{body: c.Request.Body, text: text, message: m, max: int(events.max), parse: parse, stopping: stream.Stopping(c)}
	interrupted := make(chan struct{})
	resume := context.AfterFunc(u.stopping, func() {
		defer close(interrupted)
		_ = connection.SetReadDeadline(time.Now()) // fails only if the client has left
	})
	defer func() {
		if !resume() {
			<-interrupted // on HTTP/2, net/http panics over a deadline that is set after the handler has returned
		}
	}()
	status, problem := u.publish(c.Request.Context(), events.log)
	result := gin.H{"events": u.sent, "id": u.id}
	if problem != "" {
		result["error"] = problem
		because(c, problem)
		if !u.ended {
			stopReading(c)
		}
	}
	answer(c, status, result)
}

// upload reads messages from a body, one from each line.
type upload struct {
	body     io.Reader
	ended    bool          // the body has come to its end
	text     bool          // lines are text, and not JSON
	message  event.Message // what all messages have in common; its key is that of the whole body
	max      int           // bytes of a line
	parse    parser
	stopping context.Context // ends when the server stops
	number   int             // of the latest line
	more     bool            // the next line has arrived, too
	sent     int             // messages
	id       string          // of the last one
}

// Read reads from the body.
func (u *upload) Read(p []byte) (n int, err error) {
	n, err = u.body.Read(p)
	u.ended = errors.Is(err, io.EOF)
	return n, err
}

// publish returns the answer: 202, or another status and what is wrong.
func (u *upload) publish(ctx context.Context, log event.Log) (status int, problem string) {
	lines := bufio.NewScanner(u)
	lines.Buffer(make([]byte, readAhead), math.MaxInt) // split has a bound of its own
	lines.Split(u.split)
	end := u.message.End
	u.message.End = false
	for status = http.StatusContinue; status == http.StatusContinue; {
		var messages []event.Message
		var numbers []int
		messages, numbers, status, problem = u.arrived(lines)
		if len(messages) == 0 {
			break
		}
		kept, id, err := log.Publish(ctx, messages...)
		if kept > 0 {
			u.sent, u.id = u.sent+kept, id
		}
		if err != nil {
			status, problem = explain(err)
			return status, fmt.Sprintf("Line %d: %s", numbers[kept], problem)
		}
	}
	if status == http.StatusAccepted && end {
		m := event.Message{Topic: u.message.Topic, End: true, Replace: u.message.Replace && u.sent == 0, Key: u.key()}
		if _, _, err := log.Publish(ctx, m); err != nil {
			return explain(err)
		}
	}
	return status, problem
}

// arrived waits for a line, and returns the messages of that line and of those that have arrived with it, and the
// numbers of their lines. The status is 100 while more lines may come, 202 at the end of the body, and otherwise the
// answer to a problem with the next line.
func (u *upload) arrived(lines *bufio.Scanner) (messages []event.Message, numbers []int, status int, problem string) {
	for lines.Scan() {
		u.number++
		if line := lines.Bytes(); u.text || len(bytes.TrimSpace(line)) > 0 {
			m, err := u.message, error(nil)
			m.Key = u.key()
			if m.Data, err = u.parse(line); err == nil && !u.text {
				err = misdirected(m.Topic, m.Data)
			}
			if err != nil {
				return messages, numbers, http.StatusBadRequest, fmt.Sprintf("Line %d cannot be published: %s.", u.number, strings.Replace(err.Error(), "at line 1, column", "at column", 1))
			}
			messages, numbers = append(messages, m), append(numbers, u.number)
		}
		if len(messages) > 0 && !u.more || len(messages) == together {
			return messages, numbers, http.StatusContinue, ""
		}
	}
	u.number++
	switch err := lines.Err(); {
	case err == nil:
		status = http.StatusAccepted
	case errors.Is(err, bufio.ErrTooLong):
		status, problem = http.StatusRequestEntityTooLarge, fmt.Sprintf("Line %d: %s", u.number, tooLong(int64(u.max)))
	case errors.As(err, new(otherUTF)):
		status, problem = http.StatusBadRequest, "The body cannot be published: "+err.Error()+"."
	case u.stopping.Err() != nil:
		status, problem = http.StatusServiceUnavailable, fmt.Sprintf("The server is stopping. Send the lines from number %d on again in a few seconds.", u.number)
	default:
		status, problem = http.StatusBadRequest, fmt.Sprintf("Line %d did not arrive whole.", u.number)
	}
	return messages, numbers, status, problem
}

// key returns the key of the latest line, or nothing if the body has no key.
func (u *upload) key() string {
	if u.message.Key == "" {
		return ""
	}
	return fmt.Sprint(u.message.Key, "\t", u.number) // a key of a client's has no tab
}

// split is for a bufio.Scanner, and returns a line without its end. A line of text that is too long is cut, and goes on as
// the next line: one such line must not end the log of a build.
func (u *upload) split(data []byte, _ bool) (advance int, line []byte, err error) {
	mark := 0 // the length of a byte order mark
	if u.number == 0 {
		text, err := withoutMark(data)
		if err != nil {
			return 0, nil, err
		}
		mark = len(data) - len(text)
	}
	advance = bytes.IndexByte(data, '\n') + 1 // 0 if it has not arrived
	whole := advance > 0
	if !whole {
		advance = len(data)
	}
	line = withoutEnd(data[mark:advance])
	switch {
	case len(line) > u.max && !u.text:
		return 0, nil, bufio.ErrTooLong
	case len(line) > u.max:
		line = wholeCharacters(line[:u.max])
		advance = mark + len(line)
	case !whole && (!u.ended || advance == mark): // an upload that has broken off leaves half a line
		return 0, nil, nil
	}
	u.more = bytes.Contains(data[advance:], []byte("\n"))
	return advance, line, nil
}

// withoutEnd returns a line without its newline, and without the one carriage return that may go before that.
func withoutEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}

// wholeCharacters returns text without a character that is cut off at its end. It returns one byte at least.
func wholeCharacters(text []byte) []byte {
	for n := 1; n < min(utf8.UTFMax, len(text)); n++ {
		if !utf8.FullRune(text[len(text)-n:]) {
			return text[:len(text)-n]
		}
	}
	return text
}
