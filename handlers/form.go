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

// fromForm makes JSON of a form's fields: message=hello is {"message":"hello"}. charset is what the fields are in, or nil if
// they are UTF-8 already.
func fromForm(charset encoding.Encoding, check func([]byte) error) parser {
	decode := func(text string) (_ string, err error) {
		if charset != nil {
			text, err = charset.NewDecoder().String(text)
		}
		return text, errors.Join(err, check([]byte(text)))
	}
	return func(body []byte) (json.RawMessage, error) {
		if start := bytes.TrimSpace(body); len(start) > 0 && strings.ContainsRune(`{["`, rune(start[0])) {
			return nil, errors.New("it looks like JSON that was sent as a form; with curl, add -H 'Content-Type: application/json'")
		}
		// A semicolon is data, as the URL standard says. Go refuses it, because it once separated fields.
		values, err := url.ParseQuery(strings.ReplaceAll(string(body), ";", "%3B"))
		if err != nil {
			return nil, fmt.Errorf("the body is not a form: %w", err)
		}
		if len(values) == 0 {
			return nil, errors.New("the form is empty; send a field, such as message=hello")
		}
		fields := gin.H{}
		for encoded, given := range values {
			name, err := decode(encoded)
			if err != nil {
				return nil, fmt.Errorf("the body is not a form: the name of a field: %w", err)
			}
			for i := range given {
				if given[i], err = decode(given[i]); err != nil {
					return nil, fmt.Errorf("the body is not a form: field %q: %w", cut(name, 100), err)
				}
			}
			if fields[name] = given[0]; len(given) > 1 {
				fields[name] = given
			}
		}
		return encode(fields)
	}
}
