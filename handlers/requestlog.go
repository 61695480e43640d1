package handlers

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/hub"
	"gin-sse/internal/stream"
)

const (
	longestText   = 256 // bytes of a path with its query, or of errors, in a line of the log
	longestMethod = 16

	hidden = "***" // in place of a credential
	jwt    = "eyJ" // every JSON Web Token begins with {" in base64
)

// RequestLog writes a line to log for each request but those of probes. What a client sends is cut if it is long.
// Credentials in the query are left out. The line of a stream comes when it ends. The line of a request that was refused
// has the reason.
func RequestLog(log *slog.Logger) gin.HandlerFunc {
	tokens := regexp.MustCompile(jwt + `[\w.-]*`)
	return func(c *gin.Context) {
		start, path, query := time.Now(), c.Request.URL.Path, c.Request.URL.RawQuery
		switch path {
		case "/healthz", "/readyz", "/metrics":
			return
		}
		defer func() { // also if a panic cuts the answer off
			l := requestLine{start: start, status: c.Writer.Status()}
			if !log.Enabled(context.Background(), l.level()) {
				return
			}
			l.method, l.client = strings.Clone(cut(c.Request.Method, longestMethod)), clientAddress(c)
			if len(c.Errors) > 0 {
				reasons := strings.Join(c.Errors.ByType(gin.ErrorTypePrivate).Errors(), "; ")
				l.reason = cut(tokens.ReplaceAllString(reasons, hidden), longestText)
			}
			l.sub = cut(c.GetString(subKey), longestText)
			if l.subscriber, _ = c.Value(subscriberKey).(*hub.Subscriber); l.subscriber == nil && query != "" {
				path += "?" + withoutCredentials(query)
			}
			l.path = strings.Clone(cut(path, longestText))
			stream.AtEnd(c, func(end stream.End) { l.write(log, end) })
		}()
		c.Next()
	}
}

// What handlers tell the log, by its key in the gin.Context.
const (
	subKey        = "gin-sse/sub"        // the sub of a token: a string
	subscriberKey = "gin-sse/subscriber" // of a stream: a *hub.Subscriber
)

// requestLine is a line of the log. A stream has one for as long as it is open, so it keeps nothing of the request in memory.
type requestLine struct {
	start                             time.Time
	status                            int
	method, path, client, reason, sub string
	subscriber                        *hub.Subscriber // nil unless the answer is a stream of events
}

func (l requestLine) level() slog.Level {
	if l.status >= http.StatusInternalServerError {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

func (l requestLine) write(log *slog.Logger, end stream.End) {
	now, message := time.Now(), "request"
	if end != "" {
		message = "stream"
	}
	line := slog.NewRecord(now, l.level(), message, 0) // log.LogAttrs would find out where in the program this is
	line.AddAttrs(slog.String("method", l.method), slog.String("path", l.path), slog.Int("status", l.status),
		slog.Float64("seconds", float64(now.Sub(l.start).Microseconds())/1e6), slog.String("client", l.client))
	if l.reason != "" {
		line.AddAttrs(slog.String("reason", l.reason))
	}
	if end != "" {
		line.AddAttrs(slog.String("ended", string(end)))
	}
	if l.sub != "" {
		line.AddAttrs(slog.String("sub", l.sub))
	}
	if l.subscriber != nil {
		topics := cut(strings.Join(l.subscriber.Topics.Names(), " "), longestText)
		line.AddAttrs(slog.String("topics", topics), slog.Uint64("events", l.subscriber.Received()))
	}
	_ = log.Handler().Handle(context.Background(), line) // there is no log to report it in
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

// withoutCredentials hides the values of parameters that look like credentials. It errs on the side of hiding too much.
func withoutCredentials(query string) string {
	parameters := strings.Split(query, "&")
	for i, parameter := range parameters {
		text, err := url.QueryUnescape(parameter)
		name, _, _ := strings.Cut(text, "=")
		// A value may be an address with a query of its own, so look for names in front of the last "=".
		names := strings.ToLower(text[:max(0, strings.LastIndexByte(text, '='))])
		secret := func(word string) bool { return strings.Contains(names, word) }
		switch {
		case err != nil || strings.Contains(name, jwt):
			parameters[i] = hidden
		case strings.Contains(text, jwt) || slices.ContainsFunc(credentials(), secret):
			parameters[i] = name + "=" + hidden
		}
	}
	return strings.Join(parameters, "&")
}

// credentials returns words that occur in the names of parameters whose values are secret.
func credentials() []string {
	return []string{"token", "auth", "jwt", "key", "secret", "pass", "pwd", "session", "sig", "credential", "cookie", "code"}
}
