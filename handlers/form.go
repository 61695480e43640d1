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

// fromForm makes JSON of a form's fields: message=hello is {"message":"hello"}. Fields are separated by & alone, as the URL
// standard says: a semicolon is data. charset is what the fields are in, or nil if they are UTF-8 already.
func fromForm(charset encoding.Encoding, check func([]byte) error) parser {
	decode := func(escaped string) (string, error) {
		text, err := url.QueryUnescape(escaped)
		if err == nil && charset != nil {
			text, err = charset.NewDecoder().String(text)
		}
		if err != nil {
			return "", err
		}
		return text, check([]byte(text))
	}
	return func(body []byte) (json.RawMessage, error) {
		if start := bytes.TrimSpace(body); len(start) > 0 && strings.ContainsRune(`{["`, rune(start[0])) {
			return nil, errors.New("it looks like JSON that was sent as a form; with curl, add -H 'Content-Type: application/json'")
		}
		values, fields := map[string][]string{}, gin.H{}
		for field := range strings.SplitSeq(string(body), "&") {
			if field == "" {
				continue
			}
			name, value, _ := strings.Cut(field, "=")
			name, err := decode(name)
			if err != nil {
				return nil, fmt.Errorf("the body is not a form: the name of a field: %w", err)
			}
			if value, err = decode(value); err != nil {
				return nil, fmt.Errorf("the body is not a form: field %q: %w", cut(name, 100), err)
			}
			if values[name] = append(values[name], value); len(values[name]) > 1 {
				fields[name] = values[name]
			} else {
				fields[name] = value
			}
		}
		if len(fields) == 0 {
			return nil, errors.New("the form is empty; send a field, such as message=hello")
		}
		return encode(fields)
	}
}
