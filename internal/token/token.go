// Package token decides which client may subscribe to which private topic.
//
// A topic whose name begins with "private/" needs a token that lists it: a JWT that the user's own
// application signs with HS256 and SUBSCRIBE_KEY. Nothing else needs one, and nothing else opens a
// private topic.
package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"gin-sse/internal/event"
)

const (
	maxBytes  = 8 << 10 // of a token
	maxTopics = 1000    // in a token

	// leeway is how far the clocks of the server and of the application that issues tokens may differ.
	leeway = 30 * time.Second
)

// Verifier checks the tokens of requests. Its methods may be called from any number of goroutines.
type Verifier struct {
	key    []byte
	parser *jwt.Parser
}

// nameRule is for errors about topics.
const nameRule = "it takes 1 to 200 letters, digits and signs of . _ - /, with something between the slashes, and * only as the whole last part"

// New returns a verifier of tokens that are signed with key. With an empty key it refuses every private
// topic. It returns the error of [CheckKey].
func New(key []byte) (*Verifier, error) {
	if len(key) > 0 {
		if err := CheckKey(key); err != nil {
			return nil, err
		}
	}
	return &Verifier{
		key: bytes.Clone(key),
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
			jwt.WithoutClaimsValidation(), // read does that, after the signature, with reasons of its own
		),
	}, nil
}

// CheckKey says what is wrong with a SUBSCRIBE_KEY, without repeating it. White space at its ends is
// refused: it is most likely the newline of a file, and the application that issues tokens lacks it.
func CheckKey(key []byte) error {
	if len(key) < 32 || len(bytes.TrimSpace(key)) != len(key) {
		return errors.New("SUBSCRIBE_KEY cannot be used: it takes a secret of at least 32 bytes without white space at its ends, such as the output of: openssl rand -hex 32")
	}
	return nil
}

// Check decides whether the request may subscribe to all of the topics, which are valid names and
// patterns. Every error is an [*Error].
//
// A subscription with a private topic must end at the time that Check returns, which is the token's exp.
// A token is accepted for 30 s more, as clocks differ: a subscription that begins within them may last
// until they are over. A client that keeps coming back with its old token is thus let in once more and
// then gets 401; it neither loops nor outlives exp by more than 30 s. The time is zero, for no end, when
// all topics are public: then no token is looked at.
func (v *Verifier) Check(r *http.Request, topics []string) (until time.Time, err error) {
	if err := checkQuery(r); err != nil {
		return time.Time{}, err
	}
	var g grant
	for _, topic := range topics {
		if !event.IsPrivate(topic) {
			continue
		}
		if len(v.key) == 0 {
			return time.Time{}, &Error{
				Status:  http.StatusForbidden,
				Message: "The topic " + plain(topic) + " is private, and private topics are off. To turn them on, start the server with SUBSCRIBE_KEY set to a secret of at least 32 bytes.",
			}
		}
		if g.until.IsZero() {
			if g, err = v.verify(r, topic); err != nil {
				return time.Time{}, err
			}
		}
		if !g.covers(topic) {
			return time.Time{}, refuse(http.StatusForbidden, "insufficient_scope", "The token does not list the topic "+topic+".")
		}
	}
	return g.until, nil
}

// checkQuery refuses a token in the address, which ends up in logs, in histories and in referrers.
func checkQuery(r *http.Request) error {
	for given := range r.URL.Query() {
		for _, name := range []string{"access_token", "authorization", "bearer", "jwt", "token"} {
			if strings.EqualFold(given, name) {
				return refuse(http.StatusBadRequest, "invalid_request", "A token does not belong in the address ("+name+"=), which ends up in logs. Treat this one as leaked, and send a new one in a header, Authorization: Bearer TOKEN, or in the cookie access_token.")
			}
		}
	}
	return nil
}

// grant is what a valid token allows.
type grant struct {
	topics []string
	until  time.Time
}

func (g grant) covers(topic string) bool {
	for _, pattern := range g.topics {
		if event.Pattern(pattern).Covers(event.Pattern(topic)) {
			return true
		}
	}
	return false
}

// verify returns what the request's token allows. The topic is the one that needs it.
func (v *Verifier) verify(r *http.Request, topic string) (grant, error) {
	text, err := find(r)
	switch {
	case err != nil:
		return grant{}, err
	case text == "":
		return grant{}, refuse(http.StatusUnauthorized, "", "The topic "+topic+" needs a token. Send it in a header, Authorization: Bearer TOKEN, or in the cookie access_token.")
	case len(text) > maxBytes:
		return grant{}, invalid("The token is larger than %d bytes.", maxBytes)
	}

	var unread payload
	signed, err := v.parser.ParseWithClaims(text, &unread, func(*jwt.Token) (any, error) { return v.key, nil })
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return grant{}, invalid("The token is not a JWT: that has three parts, separated by dots, with JSON in the first two.")
	case err != nil && signed.Method != jwt.SigningMethodHS256:
		return grant{}, invalid("The token is not signed with HS256, the only algorithm that is accepted.")
	case err != nil:
		return grant{}, invalid("The token is not signed with this server's SUBSCRIBE_KEY.")
	case signed.Header["crit"] != nil: // RFC 7515: the issuer wants it refused unless it is understood
		return grant{}, invalid("The token has a header crit, which is not supported.")
	}
	return read(unread.json, time.Now())
}

// find returns the request's token, or the empty string if it has none. Several tokens are an error: otherwise the
// wrong one could be refused although the right one is there, and nobody could see why.
func find(r *http.Request) (string, error) {
	headers := r.Header.Values("Authorization")
	if len(headers) > 1 {
		return "", refuse(http.StatusBadRequest, "invalid_request", "The request has several Authorization headers. Send one.")
	}
	if len(headers) == 1 {
		scheme, text, _ := strings.Cut(headers[0], " ")
		if strings.EqualFold(scheme, "Bearer") {
			return strings.TrimSpace(text), nil
		}
	}
	cookies := r.CookiesNamed("access_token")
	if len(cookies) > 1 {
		return "", refuse(http.StatusBadRequest, "invalid_request", "The request has several cookies access_token, which differ in Path or Domain. Delete all but one.")
	}
	if len(cookies) == 1 {
		return cookies[0].Value, nil
	}
	return "", nil
}

// payload keeps a token's claims as they came. They are not read before the signature is verified.
type payload struct {
	jwt.Claims
	json []byte
}

func (p *payload) UnmarshalJSON(data []byte) error {
	p.json = bytes.Clone(data)
	return nil
}

// read returns what the claims of a token with the right signature allow.
func read(data []byte, now time.Time) (grant, error) {
	var claims map[string]json.RawMessage
	if err := json.Unmarshal(data, &claims); err != nil {
		return grant{}, invalid("The token has claims that are not a JSON object.")
	}
	for name, value := range claims {
		if string(value) == "null" {
			delete(claims, name)
		}
	}

	expires, ok := seconds(claims["exp"])
	switch {
	case claims["exp"] == nil:
		return grant{}, invalid("The token has no exp, the time at which it expires in seconds since 1970.")
	case !ok:
		return grant{}, invalid("The token has an exp that is not a number of seconds since 1970. Are they milliseconds, or is it text?")
	case !now.Before(expires.Add(leeway)):
		return grant{}, invalid("The token expired at %s. The server's clock says %s.", utc(expires), utc(now))
	}
	begins, ok := seconds(claims["nbf"])
	switch {
	case claims["nbf"] == nil:
	case !ok:
		return grant{}, invalid("The token has an nbf that is not a number of seconds since 1970. Are they milliseconds, or is it text?")
	case now.Before(begins.Add(-leeway)):
		return grant{}, invalid("The token is not valid before %s. The server's clock says %s.", utc(begins), utc(now))
	}

	g := grant{until: expires}
	if !now.Before(expires) {
		g.until = expires.Add(leeway)
	}
	switch {
	case claims["topics"] == nil:
		return grant{}, invalid("The token has no topics, the list of what it opens.")
	case json.Unmarshal(claims["topics"], &g.topics) != nil:
		return grant{}, invalid("The token has topics that are not a list of strings.")
	case len(g.topics) > maxTopics:
		return grant{}, invalid("The token lists more than %d topics. A prefix such as private/orders/* covers many.", maxTopics)
	}
	for i, pattern := range g.topics {
		if event.CheckPattern(pattern) != nil {
			return grant{}, invalid("Entry %d of the token's topics is not the name of a topic: %s.", i+1, nameRule)
		}
	}
	return g, nil
}

// seconds returns the time of a claim, unless that is not a number or beyond the year 9999.
func seconds(claim json.RawMessage) (time.Time, bool) {
	var since1970 float64
	if json.Unmarshal(claim, &since1970) != nil || since1970 < 0 || since1970 > 253402300799 {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(since1970 * 1000)), true
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Error is a refusal. It tells developers what to change, and repeats nothing of a token but its times.
type Error struct {
	Status    int    // of the answer: 400, 401 or 403
	Message   string // for a developer
	Challenge string // the value of WWW-Authenticate, or nothing
}

func (e *Error) Error() string { return e.Message }

// refuse returns an error with the challenge of RFC 6750. The code is empty for a request without a token, for which
// the RFC has none.
func refuse(status int, code, message string) error {
	e := &Error{Status: status, Message: plain(message), Challenge: `Bearer realm="gin-sse"`}
	if code != "" {
		e.Challenge += fmt.Sprintf(`, error="%s", error_description="%s"`, code, e.Message)
	}
	return e
}

func invalid(format string, args ...any) error {
	return refuse(http.StatusUnauthorized, "invalid_token", fmt.Sprintf(format, args...))
}

// plain replaces what may not stand in an error_description.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, text)
}
