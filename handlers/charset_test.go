package handlers_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/gin-gonic/gin"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/unicode"

	"gin-sse/handlers"
)

const (
	asText  = "text/plain"
	asJSON  = "application/json"
	asLines = "application/x-ndjson"
	asForm  = "application/x-www-form-urlencoded"
)

// publish returns the status, the error and the data of what is published.
func publish(contentType string, body io.Reader) (status int, reason string, published []string) {
	var log batches
	app := gin.New()
	app.POST("/sse", handlers.PublishTo(&log, 1000))
	request := httptest.NewRequest(http.MethodPost, "/sse", body)
	request.Header.Set("Content-Type", contentType)
	answer := unhurried{httptest.NewRecorder()}
	app.ServeHTTP(answer, request)
	for _, batch := range log {
		for _, message := range batch {
			published = append(published, strings.TrimSpace(message))
		}
	}
	var fields struct{ Error string }
	if err := json.Unmarshal(answer.Body.Bytes(), &fields); err != nil {
		return answer.Code, err.Error(), published
	}
	return answer.Code, fields.Error, published
}

// piecemeal is the same body whole, and byte by byte.
func piecemeal(body string) map[string]io.Reader {
	return map[string]io.Reader{
		"at once":      strings.NewReader(body),
		"byte by byte": iotest.OneByteReader(strings.NewReader(body)),
	}
}

func in(t *testing.T, charset encoding.Encoding, text string) string {
	t.Helper()
	encoded, err := charset.NewEncoder().String(text)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func TestTextInAnotherCharsetArrivesAsItWasMeant(t *testing.T) {
	t.Parallel()
	const (
		cafe   = `{"message":"café"}`
		mark   = "\xef\xbb\xbf"
		latin1 = "caf\xe9"
	)
	little, big := unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM), unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)
	marked := unicode.UTF16(unicode.BigEndian, unicode.UseBOM)
	for _, test := range []struct {
		contentType, body string
		want              []string
	}{
		{asText + "; charset=iso-8859-1", latin1, []string{cafe}},
		{asText + "; charset=ISO-8859-1", latin1 + "\r\n" + latin1 + "\n", []string{cafe, cafe}},
		{asText + `; charset="Windows-1252"`, latin1, []string{cafe}},
		{"Text/Plain;Charset=Latin1", latin1, []string{cafe}},
		{asText + "; charset=cp1252", "5 \x80", []string{`{"message":"5 €"}`}},
		{asText + "; charset=cp850", "caf\x82", []string{cafe}},
		{asText + "; charset=us-ascii", "cafe", []string{`{"message":"cafe"}`}},
		{asText + "; format=flowed; charset=shift_jis; delsp=yes", in(t, japanese.ShiftJIS, "表示\nソ"), []string{`{"message":"表示"}`, `{"message":"ソ"}`}},
		{asText + "; charset=utf-16", in(t, marked, "café\r\nx"), []string{cafe, `{"message":"x"}`}},
		{asText + "; charset=utf-16", "\xff\xfe" + in(t, little, "café"), []string{cafe}},
		{asText + "; charset=UTF-16LE", in(t, little, "café\nĊ\n"), []string{cafe, `{"message":"Ċ"}`}},
		{asText + "; charset=utf-16be", in(t, big, "\ufeffcafé"), []string{cafe}},
		{asText + "; charset=utf8", "café", []string{cafe}},
		{asText + `; charset="utf-8"`, mark + "café\n" + mark + "x", []string{cafe, "{\"message\":\"\ufeffx\"}"}},
		{asText, mark + "café", []string{cafe}},
		{asText, mark, nil},
		{asText, mark + "\n", []string{`{"message":""}`}},
		{asText, "a\x00\n", []string{`{"message":"a\u0000"}`}},
		{asText, "\x00a\nb", []string{`{"message":"\u0000a"}`, `{"message":"b"}`}},
		{asJSON, mark + cafe, []string{cafe}},
		{asJSON + "; charset=windows-1252", "{\"message\":\"caf\xe9\"}", []string{cafe}},
		{asJSON + "; charset=utf-16", in(t, marked, cafe), []string{cafe}},
		{asLines + ";charset=latin1", "\"\xe9\"\n\n\"\xe8\"", []string{`"é"`, `"è"`}},
		{asLines, mark + "1\n2\n", []string{"1", "2"}},
		{asForm, "message=caf%C3%A9", []string{cafe}},
		{asForm, mark + "message=café", []string{cafe}},
		{asForm + "; charset=iso-8859-1", "message=caf%E9", []string{cafe}},
		{asForm + "; charset=Windows-1252", "message=" + latin1, []string{cafe}},
		{asForm + "; charset=shift_jis", "message=%95%5C%8E%A6", []string{`{"message":"表示"}`}},
		{asForm + "; charset=utf-16", in(t, marked, "message=caf%C3%A9&n=é"), []string{`{"message":"café","n":"é"}`}},
	} {
		for pieces, body := range piecemeal(test.body) {
			status, reason, got := publish(test.contentType, body)
			if status != http.StatusAccepted || !slices.Equal(got, test.want) {
				t.Errorf("%s, %q %s: status %d, error %q and %q, want %q", test.contentType, test.body, pieces, status, reason, got, test.want)
			}
		}
	}
}

func TestTextThatCannotBeReadIsRefusedWithItsPlace(t *testing.T) {
	t.Parallel()
	const (
		advice = " is not UTF-8; send UTF-8, or name the charset in the Content-Type, such as charset=windows-1252."
		single = "The event cannot be published: "
		utf16  = "it is UTF-16: send UTF-8, or add charset=utf-16 to the Content-Type."
		utf32  = "it is UTF-32: send UTF-8, or add charset=utf-32 to the Content-Type."
	)
	for _, test := range []struct {
		contentType, body string
		status            int
		reason            string
	}{
		{asText + "; charset=klingon", "x", 415, `charset "klingon" is not known: send UTF-8, or name the charset in the Content-Type, such as charset=windows-1252.`},
		{asJSON + "; charset=utf-7", "1", 415, `charset "utf-7" is not known: `},
		{asForm + "; charset='utf-8'", "a=b", 415, `charset "'utf-8'" is not known: `},
		{asText + "; charset=", "x", 415, `Content-Type "text/plain; charset=" cannot be read: `},
		{asText + "; charset=utf-8; charset=latin1", "x", 415, `Content-Type "text/plain; charset=utf-8; charset=latin1" cannot be read: `},
		{asJSON, "{\n \"a\": \"caf\xe9\"}", 400, single + "the body is not JSON: byte 0xe9 at line 2, column 11" + advice},
		{asJSON + "; charset=UTF-8", "\"\xff\"", 400, single + "the body is not JSON: byte 0xff at line 1, column 2" + advice},
		{asJSON, "\"\xed\xa0\x80\"", 400, single + "the body is not JSON: byte 0xed at line 1, column 2" + advice},
		{asLines, "1\n\"\x80\"\n", 400, "Line 2 cannot be published: the body is not JSON: byte 0x80 at column 2" + advice},
		{asForm, "a=b&message=caf\xe9", 400, single + `the body is not a form: field "message": byte 0xe9 at line 1, column 4` + advice},
		{asForm, "message=a%0A%E9", 400, single + `the body is not a form: field "message": byte 0xe9 at line 2, column 1` + advice},
		{asForm, "m%E9=x", 400, single + `the body is not a form: the name of a field: byte 0xe9 at line 1, column 2` + advice},
		{asJSON + "; charset=shift_jis", "\"\x81\"", 400, single + "the body is not JSON: at line 1, column 2 is something that its charset does not have; "},
		{asLines + "; charset=utf-16le", "\"\x00\x00\xd8\"\x00", 400, "Line 1 cannot be published: the body is not JSON: at column 2 is something"},
		{asForm + "; charset=euc-jp", "a=%FF", 400, single + `the body is not a form: field "a": at line 1, column 1 is something`},
		{asForm + "; charset=utf-16le", "a\x00=\x00\x00\xd8", 400, single + `the body is not a form: field "a": at line 1, column 1 is something`},
		{asForm + "; charset=utf-16le", "a\x00=\x00%\x00E\x009\x00", 400, single + `the body is not a form: field "a": at line 1, column 1 is something`},
		{asJSON, "\xff\xfe1\x00", 400, single + utf16},
		{asJSON, "[\x001\x00]\x00", 400, single + utf16},
		{asForm, "\xfe\xff\x00a\x00=\x00b", 400, single + utf16},
		{asForm, "a\x00=\x00b\x00", 400, single + utf16},
		{asLines, "\xff\xfe1\x00\n\x00", 400, "The body cannot be published: " + utf16},
		{asText, "\xff\xfeh\x00i\x00\r\x00\n\x00", 400, "The body cannot be published: " + utf16},
		{asText, "\xfe\xff\x00h\x00i", 400, "The body cannot be published: " + utf16},
		{asText + "; charset=utf-8", "h\x00i\x00\r\x00\n\x00", 400, "The body cannot be published: " + utf16},
		{asText, "\x00h\x00i\x00\n", 400, "The body cannot be published: " + utf16},
		{asText, "\xff\xfe\x00\x00h\x00\x00\x00", 400, ""}, // byte by byte it looks like UTF-16 first
		{asJSON, "\xff\xfe\x00\x001\x00\x00\x00", 400, single + utf32},
	} {
		for pieces, body := range piecemeal(test.body) {
			status, reason, got := publish(test.contentType, body)
			lines := strings.HasPrefix(test.reason, "Line 2") // the line before it is published
			if status != test.status || !strings.HasPrefix(reason, test.reason) || len(got) > 0 != lines {
				t.Errorf("%s, %q %s: status %d, error %q, and %q is published; want %d, %q", test.contentType, test.body, pieces, status, reason, got, test.status, test.reason)
			}
		}
	}
}

func TestAFormIsSplitAtAmpersandsAlone(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"message=Deploy finished; 3 warnings": `{"message":"Deploy finished; 3 warnings"}`,
		"message=a;b=c&n=1;2":                 `{"message":"a;b=c","n":"1;2"}`,
		"message=a%3Bb%26c":                   `{"message":"a;b&c"}`,
		";=;":                                 `{";":";"}`,
		"a;b":                                 `{"a;b":""}`,
		"&&a=b=c&":                            `{"a":"b=c"}`,
		"a=1&b=2&a=3":                         `{"a":["1","3"],"b":"2"}`,
		"a=x+y%2B":                            `{"a":"x y+"}`,
		"=x":                                  `{"":"x"}`,
	} {
		status, reason, got := publish(asForm, strings.NewReader(body))
		if status != http.StatusAccepted || !slices.Equal(got, []string{want}) {
			t.Errorf("%q: status %d, error %q and %q, want %s", body, status, reason, got, want)
		}
	}
}
