package event

import "strings"

// onOneLine returns JSON without line breaks. A line feed or a carriage return is white space there. U+0085, U+2028 and
// U+2029 are line breaks in Unicode but not in the format of a stream: widely used clients for Python split lines there,
// and would lose the rest of the data. JSON can have them in strings alone, where the escaped text means the same.
func onOneLine(data []byte) string {
	text := string(data)
	for _, char := range [...]struct{ raw, escaped string }{
		{"\n", " "}, {"\r", " "}, {"\u0085", `\u0085`}, {"\u2028", `\u2028`}, {"\u2029", `\u2029`},
	} {
		text = strings.ReplaceAll(text, char.raw, char.escaped)
	}
	return text
}
