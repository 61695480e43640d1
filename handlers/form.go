package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"
	"golang.org/x/text/encoding"
)

// fromForm returns what makes JSON of a form's fields: message=hello is {"message":"hello"}. Fields are separated by &
// alone, as the URL standard says: a semicolon is data. charset is what the fields are in, or nil for UTF-8.
func fromForm(charset encoding.Encoding) func(body []byte) (json.RawMessage, error) {
	return func(body []byte) (json.RawMessage, error) {
		if start := bytes.TrimSpace(body); len(start) > 0 && strings.ContainsRune(`{["`, rune(start[0])) {
			return nil, errors.New("it looks like JSON that was sent as a form; with curl, add -H 'Content-Type: application/json'")
		}
		values := map[string][]string{}
		for field := range strings.SplitSeq(string(body), "&") {
			if field == "" {
				continue
			}
			name, value, _ := strings.Cut(field, "=")
			name, err := decodeField(name, charset)
			if err != nil {
				return nil, fmt.Errorf("the body is not a form: the name of a field: %w", err)
			}
			if value, err = decodeField(value, charset); err != nil {
				return nil, fmt.Errorf("the body is not a form: field %q: %w", cut(name, 100), err)
			}
			values[name] = append(values[name], value)
		}
		if len(values) == 0 {
			return nil, errors.New("the form is empty; send a field, such as message=hello")
		}
		fields := gin.H{}
		for name, given := range values {
			fields[name] = given[0]
			if len(given) > 1 {
				fields[name] = given
			}
		}
		return encode(fields)
	}
}

// decodeField returns a name or a value of a form as text.
func decodeField(escaped string, charset encoding.Encoding) (string, error) {
	text, err := url.QueryUnescape(escaped)
	if err != nil {
		return "", err
	}
	if charset == nil {
		return text, checkUTF8([]byte(text))
	}
	if text, err = charset.NewDecoder().String(text); err != nil {
		return "", err
	}
	return text, checkConverted([]byte(text))
}
