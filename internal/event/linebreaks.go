package event

import "strings"

// escapeLineBreaks escapes the characters that are line breaks in Unicode but not in the format: U+0085, U+2028 and
// U+2029. Widely used clients for Python split lines there, and would lose the rest of the data. JSON can have them in
// strings alone, so the escaped text means the same.
func escapeLineBreaks(data string) string {
	data = strings.ReplaceAll(data, "\u0085", `\u0085`)
	data = strings.ReplaceAll(data, "\u2028", `\u2028`)
	return strings.ReplaceAll(data, "\u2029", `\u2029`)
}
