package event

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
)

// Every character at which any of the usual libraries splits lines: Python's str.splitlines has the most.
func TestDataIsOneLineForEveryIdeaOfLines(t *testing.T) {
	t.Parallel()
	const breaks = "\n\r\v\f\x1c\x1d\x1e\u0085\u2028\u2029"
	const escaped = `\u000a \u000D \u0085 \u2028 \u2029`
	for _, data := range []string{
		"\"a\u0085b\u2028c\u2029\"", "{\"\u2028\":[\"\u0085\u0085\"]}", "\"\\u2028 and \u2028\"", "\"\\\\\u2028\"", "\"no break: ü \u2027 \u202a\"", "\"" + escaped + "\"", "[1,\r\n2,\r{}]\n",
	} {
		message := Message{Data: json.RawMessage(data)}.Frame("e-1")
		tick, err := Tick(json.RawMessage(data))
		if err != nil {
			t.Fatal(err)
		}
		for kind, frame := range map[string]string{"message": string(message), "tick": string(tick)} {
			_, line, _ := strings.Cut(frame, "data:")
			line, end, _ := strings.Cut(line, "\n")
			if end != "\n" || strings.ContainsAny(line, breaks) || strings.ContainsFunc(line, unicode.IsControl) {
				t.Errorf("the %s of %q has the frame %q", kind, data, frame)
			}
			var got, want any
			if err := json.Unmarshal([]byte(line), &got); err != nil {
				t.Errorf("the %s of %q: %v", kind, data, err)
			}
			if err := json.Unmarshal([]byte(data), &want); err != nil {
				t.Fatal(err)
			}
			if g, w := encodeAny(t, got), encodeAny(t, want); g != w {
				t.Errorf("the %s of %q says %s, want %s", kind, data, g, w)
			}
		}
	}
}

func encodeAny(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
