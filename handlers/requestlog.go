package handlers

import (
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/stream"
)

const (
	longestText   = 256 // bytes of a path with its query, or of errors, in a line of the log
	longestMethod = 16
)

// RequestLog writes a line to out for each request but those of probes, in Gin's format. Whatever a client sends is
// escaped, and cut if it is long. Credentials in the query are left out. The line of a stream comes when it ends.
func RequestLog(out io.Writer) gin.HandlerFunc {
	return func(c *gin.Context) {
		start, target := time.Now(), c.Request.URL.Path
		switch target {
		case "/healthz", "/readyz", "/metrics":
			return
		}
		if query := c.Request.URL.RawQuery; query != "" {
			target += "?" + withoutCredentials(query)
		}
		c.Next()
		status, request := c.Writer.Status(), describe(c, target)
		stream.AtEnd(c, func() {
			p := gin.LogFormatterParams{StatusCode: status, Latency: time.Since(start)}
			fmt.Fprintf(out, "[GIN] %s |%s|%s| %s\n", time.Now().Format("2006/01/02 - 15:04:05"),
				paint(p, p.StatusCodeColor(), fmt.Sprintf(" %3d ", status)),
				paint(p, p.LatencyColor(), fmt.Sprintf(" %8v ", shorten(p.Latency))), request)
		})
	}
}

// describe returns the part of the line about the client and its request. It keeps nothing of the request in memory.
func describe(c *gin.Context, target string) string {
	method := cut(c.Request.Method, longestMethod)
	if strings.ContainsFunc(method, func(r rune) bool { return r < 'A' || r > 'Z' }) {
		method = strconv.Quote(method)
	}
	p := gin.LogFormatterParams{Method: method}
	text := fmt.Sprintf("%15.45s |%s %q", clientAddress(c), // 45 is the length of the longest IPv6 address
		paint(p, p.MethodColor(), fmt.Sprintf(" %-7s ", method)), cut(target, longestText))
	if errs := c.Errors.ByType(gin.ErrorTypePrivate).Errors(); len(errs) > 0 {
		text += fmt.Sprintf(" %q", cut(strings.Join(errs, "; "), longestText))
	}
	return text
}

// paint colors text if gin.ForceConsoleColor was called. Gin cannot tell whether out leads to a terminal.
func paint(p gin.LogFormatterParams, color, text string) string {
	if !p.IsOutputColor() {
		return text
	}
	return color + text + p.ResetColor()
}

// shorten leaves out the digits that only make a duration harder to read.
func shorten(d time.Duration) time.Duration {
	switch {
	case d > time.Minute:
		return d.Truncate(10 * time.Second)
	case d > time.Second:
		return d.Truncate(10 * time.Millisecond)
	case d > time.Millisecond:
		return d.Truncate(10 * time.Microsecond)
	}
	return d
}

// cut bounds a text from a client. The line may still have four times as many bytes, as escapes take up to four.
func cut(s string, longest int) string {
	if len(s) <= longest {
		return s
	}
	end := longest
	for end > longest-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return fmt.Sprintf("%s…(%d bytes)", s[:end], len(s))
}

// withoutCredentials hides the values of parameters that look like credentials.
func withoutCredentials(query string) string {
	parameters := strings.Split(query, "&")
	for i, parameter := range parameters {
		parameters[i] = withoutCredential(parameter)
	}
	return strings.Join(parameters, "&")
}

// withoutCredential errs on the side of hiding too much.
func withoutCredential(parameter string) string {
	const hidden, jwt = "***", "eyJ" // every JSON Web Token begins with {" in base64
	text, err := url.QueryUnescape(parameter)
	name, _, _ := strings.Cut(text, "=")
	if err != nil || strings.Contains(name, jwt) {
		return hidden
	}
	// A value may be an address with a query of its own, so look for names in front of the last "=".
	names := strings.ToLower(text[:max(0, strings.LastIndexByte(text, '='))])
	isIn := func(word string) bool { return strings.Contains(names, word) }
	if strings.Contains(text, jwt) || slices.ContainsFunc(credentials(), isIn) {
		return name + "=" + hidden
	}
	return parameter
}

// credentials returns words that occur in the names of parameters whose values are secret.
func credentials() []string {
	return []string{"token", "auth", "jwt", "key", "secret", "pass", "pwd", "session", "sig", "credential", "cookie", "code"}
}
