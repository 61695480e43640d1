package handlers

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"
)

const sendUTF8 = "send UTF-8, or name the charset in the Content-Type, such as charset=windows-1252"

// mediaType returns what a Content-Type says: the type in lower case, and the charset or nil for UTF-8. The error says
// why it cannot be used.
func mediaType(header string) (kind string, charset encoding.Encoding, err error) {
	if !strings.Contains(header, ";") {
		return strings.ToLower(strings.TrimSpace(header)), nil, nil
	}
	kind, parameters, err := mime.ParseMediaType(header)
	if err != nil {
		return "", nil, fmt.Errorf("Content-Type %q cannot be read: %w", cut(header, 100), err)
	}
	if name, given := parameters["charset"]; given {
		charset, err = charsetNamed(name)
	}
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

// withoutMark returns text that should be UTF-8 without its byte order mark. The error says that it is UTF-16 or UTF-32, as
// some Windows tools write it.
func withoutMark(text []byte) ([]byte, error) {
	begins := func(mark string) bool { return bytes.HasPrefix(text, []byte(mark)) }
	// Without a mark, every other byte of UTF-16 is 0 as long as the text is in a Latin script.
	latin := func(zero int) bool {
		return len(text) >= 4 && text[zero] == 0 && text[zero+2] == 0 && text[1-zero] != 0 && text[3-zero] != 0
	}
	switch {
	case begins("\xEF\xBB\xBF"):
		return text[3:], nil
	case begins("\xFF\xFE\x00\x00"), begins("\x00\x00\xFE\xFF"):
		return nil, otherUTF("UTF-32")
	case begins("\xFF\xFE"), begins("\xFE\xFF"), latin(0), latin(1):
		return nil, otherUTF("UTF-16")
	}
	return text, nil
}

// otherUTF is the error of text that is UTF-16 or UTF-32.
type otherUTF string

func (name otherUTF) Error() string {
	return fmt.Sprintf("it is %s: send UTF-8, or add charset=%s to the Content-Type", string(name), strings.ToLower(string(name)))
}

// checkUTF8 returns an error with the place of the first byte that is not UTF-8.
func checkUTF8(text []byte) error {
	if utf8.Valid(text) {
		return nil
	}
	for at := 0; ; {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size == 1 {
			return fmt.Errorf("byte %#02x at %s is not UTF-8; %s", text[at], place(text, at), sendUTF8)
		}
		at += size
	}
}

// checkConverted is checkUTF8 for text that was converted. A decoder writes U+FFFD for bytes that its charset does not have.
func checkConverted(text []byte) error {
	if at := bytes.IndexRune(text, utf8.RuneError); at >= 0 {
		return errors.New("at " + place(text, at) + " is something that its charset does not have; name the right charset in the Content-Type")
	}
	return nil
}

// place names the place of the byte text[at] for people who look for it in an editor.
func place(text []byte, at int) string {
	before := text[:at]
	return fmt.Sprintf("line %d, column %d", bytes.Count(before, []byte("\n"))+1, at-bytes.LastIndexByte(before, '\n'))
}
