package handlers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"
)

const (
	replacement = "\uFFFD" // what a decoder writes for bytes that its charset does not have
	sendUTF8    = "send UTF-8, or name the charset in the Content-Type, such as charset=windows-1252"
)

// mediaType returns what a Content-Type says: the type in lower case, and the charset or nil for UTF-8. The error says
// why it cannot be used.
func mediaType(header string) (kind string, charset encoding.Encoding, err error) {
	if header == "" {
		return "", nil, nil
	}
	kind, parameters, err := mime.ParseMediaType(header)
	if err != nil {
		return "", nil, fmt.Errorf("Content-Type %q cannot be read: %w", cut(header, 100), err)
	}
	name, given := parameters["charset"]
	if !given {
		return kind, nil, nil
	}
	charset, err = charsetNamed(name)
	return kind, charset, err
}

// charsetNamed returns the charset with that name, or nil for UTF-8. A name means what it means in browsers: iso-8859-1
// is windows-1252, which has all of its characters. Names that browsers do not know are those of IANA.
func charsetNamed(name string) (encoding.Encoding, error) {
	charset, err := htmlindex.Get(name)
	if err != nil || charset == encoding.Replacement { // for charsets that browsers refuse to read
		charset, err = ianaindex.IANA.Encoding(name)
	}
	if err != nil || charset == nil { // nil without an error: IANA has registered it, and x/text does not have it
		return nil, fmt.Errorf("charset %q is not known: %s", cut(name, 100), sendUTF8)
	}
	switch label, _ := htmlindex.Name(charset); label {
	case "utf-8":
		return nil, nil
	case "utf-16le":
		return unicode.UTF16(unicode.LittleEndian, unicode.UseBOM), nil
	case "utf-16be":
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM), nil
	}
	return charset, nil
}

// extendsASCII reports whether the characters that structure a form are the bytes that they are in ASCII.
func extendsASCII(charset encoding.Encoding) bool {
	const structure = "a=b&c=%20+"
	encoded, err := charset.NewEncoder().String(structure)
	return err == nil && encoded == structure
}

// converted is a body as UTF-8. It hands over what has arrived without waiting for more.
type converted struct {
	io.Reader
	io.Closer
}

func convert(body io.ReadCloser, charset encoding.Encoding) io.ReadCloser {
	return converted{charset.NewDecoder().Reader(body), body}
}

// beginning looks at the first bytes of text that should be UTF-8. It returns the length of a byte order mark, which is
// to be dropped, or an error if the text is UTF-16 or UTF-32, as some Windows tools write it. Until it has seen enough
// to tell, undecided is true.
func beginning(text []byte) (mark int, undecided bool, err error) {
	for _, known := range []struct{ mark, name string }{
		{"\xEF\xBB\xBF", ""},
		{"\xFF\xFE\x00\x00", "UTF-32"},
		{"\x00\x00\xFE\xFF", "UTF-32"},
		{"\xFF\xFE", "UTF-16"},
		{"\xFE\xFF", "UTF-16"},
	} {
		switch {
		case !bytes.HasPrefix(text, []byte(known.mark)):
			undecided = undecided || bytes.HasPrefix([]byte(known.mark), text)
		case known.name == "":
			return len(known.mark), false, nil
		default:
			return 0, false, isNot8(known.name)
		}
	}
	// Without a mark, every other byte of UTF-16 is 0 as long as the text is in a Latin script.
	for low := range 2 {
		matches := 0
		for i, b := range text[:min(len(text), 4)] {
			if (b == 0) == (i%2 == low) {
				matches++
			}
		}
		if matches == 4 {
			return 0, false, isNot8("UTF-16")
		}
		undecided = undecided || matches == len(text)
	}
	return 0, undecided, nil
}

func isNot8(name string) error {
	return fmt.Errorf("it is %s: send UTF-8, or add charset=%s to the Content-Type", name, strings.ToLower(name))
}

// withoutMark is beginning for text that is complete.
func withoutMark(text []byte) ([]byte, error) {
	mark, _, err := beginning(text)
	return text[mark:], err
}

// checkUTF8 returns an error with the place of the first byte that is not UTF-8.
func checkUTF8(text []byte) error {
	if utf8.Valid(text) {
		return nil
	}
	at := 0
	for {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size == 1 {
			return fmt.Errorf("byte %#02x at %s is not UTF-8; %s", text[at], place(text, at), sendUTF8)
		}
		at += size
	}
}

// checkConverted returns an error with the place of the first character that its charset does not have.
func checkConverted(text []byte) error {
	if at := bytes.Index(text, []byte(replacement)); at >= 0 {
		return errors.New("at " + place(text, at) + " is something that its charset does not have; is the charset of the Content-Type the right one?")
	}
	return nil
}

// place names the place of the byte text[at] for people who look for it in an editor.
func place(text []byte, at int) string {
	before := text[:at]
	return fmt.Sprintf("line %d, column %d", bytes.Count(before, []byte("\n"))+1, at-bytes.LastIndexByte(before, '\n'))
}
