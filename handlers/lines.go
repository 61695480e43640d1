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

	"github.com/gin-gonic/gin"

	"gin-sse/internal/hub"
	"gin-sse/internal/stream"
)

// errLineTooLong says that a line is longer than an event may be.
var errLineTooLong = errors.New("line too long")

// publishLines sends each line of the body as an event as soon as it arrives. The request may last, and be silent,
// for as long as the publisher likes. If m ends the topic, the topic ends when the body does. With a key, each line
// has a key of its own, so that a whole body can be sent again.
//
// The answer counts the events that were sent and has the id of the last one. If a line could not be sent, the
// answer also has an error with the number of that line; the lines before it stay sent.
func publishLines(c *gin.Context, log Log, key string, m hub.Message, max int64, parse func([]byte) (json.RawMessage, error)) {
	connection := http.NewResponseController(c.Writer)
	if err := connection.SetReadDeadline(time.Time{}); err != nil { // the server's limit for a whole request
		_ = c.Error(fmt.Errorf("clear the read deadline: %w", err))
		refuse(c, http.StatusInternalServerError, "This server cannot read line by line.")
		return
	}
	stopping := stream.Stopping(c)
	defer context.AfterFunc(stopping, func() { _ = connection.SetReadDeadline(time.Now()) })() // fails only if the request is over

	body := bufio.NewReader(c.Request.Body)
	send := func(number int, m hub.Message) (string, error) {
		lineKey := key
		if key != "" {
			lineKey = fmt.Sprint(key, "\t", number) // a key of a client's has no tab
		}
		return log.Publish(c.Request.Context(), lineKey, m)
	}
	end := m.End
	m.End = false
	sent, id := 0, ""
	answer := func(status int, message string) {
		if status == http.StatusServiceUnavailable {
			c.Header("Retry-After", "5")
		}
		result := gin.H{"events": sent, "id": id}
		if message != "" {
			result["error"] = message
			// On HTTP/1.x net/http reads on before it answers, and the publisher may send nothing more for hours.
			_ = connection.SetReadDeadline(time.Now())
		}
		c.AbortWithStatusJSON(status, result)
	}
	for number := 1; ; number++ {
		line, err := readLine(body, max)
		atEnd := errors.Is(err, io.EOF)
		switch {
		case errors.Is(err, errLineTooLong):
			answer(http.StatusRequestEntityTooLarge, fmt.Sprintf("Line %d: %s", number, tooLong(max)))
			return
		case err != nil && !atEnd && stopping.Err() != nil:
			answer(http.StatusServiceUnavailable, fmt.Sprintf("The server is stopping. Send the lines from number %d on again in a few seconds.", number))
			return
		case err != nil && !atEnd:
			answer(http.StatusBadRequest, fmt.Sprintf("Line %d did not arrive whole.", number))
			return
		case atEnd && len(line) == 0:
			if end {
				if _, err := send(number, hub.Message{Topic: m.Topic, End: true}); err != nil {
					answer(explain(err))
					return
				}
			}
			answer(http.StatusAccepted, "")
			return
		}
		line = withoutEnd(line)
		if len(bytes.TrimSpace(line)) == 0 && !strings.EqualFold(c.ContentType(), gin.MIMEPlain) {
			continue // NDJSON may have empty lines
		}
		if m.Data, err = parse(line); err != nil {
			answer(http.StatusBadRequest, fmt.Sprintf("Line %d cannot be published: %s.", number, strings.Replace(err.Error(), "at line 1, column", "at column", 1)))
			return
		}
		lastID, err := send(number, m)
		if err != nil {
			status, message := explain(err)
			answer(status, fmt.Sprintf("Line %d: %s", number, message))
			return
		}
		sent, id = sent+1, lastID
	}
}

// withoutEnd returns a line without its newline, and without the one carriage return that may go before that.
func withoutEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}

// readLine returns the next line with its end. The error is io.EOF if it is the last one.
func readLine(body *bufio.Reader, max int64) (line []byte, err error) {
	for {
		part, err := body.ReadSlice('\n')
		line = append(line, part...)
		if int64(len(withoutEnd(line))) > max {
			return nil, errLineTooLong
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}
