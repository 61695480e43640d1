// Package token decides which client may subscribe to which topic.
//
// A topic whose name begins with "private/" needs a token that lists it: a JWT that the user's own
// application signs with HS256 and SUBSCRIBE_KEY. So does every other topic that is not public.
package token

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"gin-sse/internal/event"
	"gin-sse/internal/secret"
)

const (
	maxBytes  = 8 << 10 // of a token
	maxTopics = 1000    // in a token

	// leeway is how far the clocks of the server and of the application that issues tokens may differ.
	leeway = 30 * time.Second
)

// Verifier checks the tokens of requests. Its methods may be called from any number of goroutines.
type Verifier struct {
	keys   *secret.List
	public event.Public
	parser *jwt.Parser
}

// nameRule is for errors about topics.
const nameRule = "it takes 1 to 200 letters, digits and signs of . _ - /, with something between the slashes, and * only as the whole last part"

// New returns a verifier of tokens that are signed with one of the keys, each of which [CheckKey] accepts. Topics that the
// public patterns cover need no token. Without a key it refuses all others.
func New(keys *secret.List, public []string) *Verifier {
	return &Verifier{keys, event.Public(public), jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithExpirationRequired(), jwt.WithLeeway(leeway))}
}

// CheckKey says what is wrong with a SUBSCRIBE_KEY, without repeating it. White space at its ends is
// refused: it is most likely the newline of a file, and the application that issues tokens lacks it.
func CheckKey(key []byte) error {
	if len(key) < 32 || len(bytes.TrimSpace(key)) != len(key) {
		return errors.New("SUBSCRIBE_KEY cannot be used: it takes a secret of at least 32 bytes without white space at its ends, such as the output of: openssl rand -hex 32")
	}
	return nil
}

// Grant is what a request may do.
type Grant struct {
	Until    time.Time       // when its stream must end; zero for no end
	Subject  string          // the token's sub, for the log
	Accepted context.Context // its stream must end with it, because the key of its token was removed; nil without a token

	topics []string
}

// Check decides whether the request may subscribe to all of the topics, which are valid names and
// patterns. Every error is an [*Error]. If all topics are public, no token is looked at, and the grant is the zero value.
//
// A subscription to other topics must end at the token's exp. A token is accepted for 30 s more, as clocks differ: a
// subscription that begins within them may last until they are over. A client that keeps coming back with its old token
// is thus let in once more and then gets 401; it neither loops nor outlives exp by more than 30 s.
func (v *Verifier) Check(r *http.Request, topics []string) (g Grant, err error) {
	if err := checkQuery(r); err != nil {
		return Grant{}, err
	}
	for _, topic := range topics {
		if v.public.Covers(topic) {
			continue
		}
		if len(v.keys.All()) == 0 {
			return Grant{}, &Error{
				Status:  http.StatusForbidden,
				Message: "The topic " + plain(topic) + " is private, and private topics are off. To turn them on, start the server with SUBSCRIBE_KEY set to a secret of at least 32 bytes.",
			}
		}
		if g.Accepted == nil {
			if g, err = v.verify(r, topic); err != nil {
				return Grant{}, err
			}
		}
		opens := func(pattern string) bool { return event.Pattern(pattern).Covers(event.Pattern(topic)) }
		if !slices.ContainsFunc(g.topics, opens) {
			return Grant{}, refuse(http.StatusForbidden, "insufficient_scope", "The token does not list the topic "+topic+".")
		}
	}
	return g, nil
}

// checkQuery refuses a token in the address, which ends up in logs, in histories and in referrers.
func checkQuery(r *http.Request) error {
	for given := range r.URL.Query() {
		if name := strings.ToLower(given); slices.Contains([]string{"access_token", "authorization", "bearer", "jwt", "token"}, name) {
			return refuse(http.StatusBadRequest, "invalid_request", "A token does not belong in the address ("+name+"=), which ends up in logs. Treat this one as leaked, and send a new one in a header, Authorization: Bearer TOKEN, or in the cookie access_token.")
		}
	}
	return nil
}

// verify returns what the request's token allows. The topic is the one that needs it.
func (v *Verifier) verify(r *http.Request, topic string) (Grant, error) {
	text, err := find(r)
	switch {
	case err != nil:
		return Grant{}, err
	case text == "":
		return Grant{}, refuse(http.StatusUnauthorized, "", "The topic "+topic+" needs a token. Send it in a header, Authorization: Bearer TOKEN, or in the cookie access_token.")
	case len(text) > maxBytes:
		return Grant{}, invalid("The token is larger than %d bytes.", maxBytes)
	}
	var claims jwt.MapClaims
	var signed *jwt.Token
	var g Grant
	for _, key := range v.keys.All() {
		claims, g.Accepted = jwt.MapClaims{}, key.Accepted
		signed, err = v.parser.ParseWithClaims(text, claims, func(*jwt.Token) (any, error) { return key.Value, nil })
		if !errors.Is(err, jwt.ErrTokenSignatureInvalid) {
			break
		}
	}
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return Grant{}, invalid("The token is not a JWT: that has three parts, separated by dots, with JSON in the first and a JSON object in the second.")
	case err != nil && signed.Method != jwt.SigningMethodHS256:
		return Grant{}, invalid("The token is not signed with HS256, the only algorithm that is accepted.")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return Grant{}, invalid("The token is not signed with this server's SUBSCRIBE_KEY.")
	case signed.Header["crit"] != nil: // RFC 7515: the issuer wants it refused unless it is understood
		return Grant{}, invalid("The token has a header crit, which is not supported.")
	}
	return g, g.read(claims, err, time.Now())
}

// find returns the request's token, or the empty string if it has none. Several tokens are an error: otherwise the
// wrong one could be refused although the right one is there, and nobody could see why.
func find(r *http.Request) (string, error) {
	headers, cookies := r.Header.Values("Authorization"), r.CookiesNamed("access_token")
	if len(headers) > 1 {
		return "", refuse(http.StatusBadRequest, "invalid_request", "The request has several Authorization headers. Send one.")
	}
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return strings.TrimSpace(text), nil
	case len(cookies) > 1:
		return "", refuse(http.StatusBadRequest, "invalid_request", "The request has several cookies access_token, which differ in Path or Domain. Delete all but one.")
	case len(cookies) == 1:
		return cookies[0].Value, nil
	}
	return "", nil
}

// read takes what the claims of a token with the right signature allow, unless they are invalid because of a problem that
// the parser has found.
func (g *Grant) read(claims jwt.MapClaims, problem error, now time.Time) error {
	if claims["exp"] == nil {
		return invalid("The token has no exp, the time at which it expires in seconds since 1970.")
	}
	times := map[string]time.Time{}
	for _, name := range []string{"exp", "nbf"} {
		claim, isGiven := claims[name]
		since1970, isNumber := claim.(float64)
		if isGiven && (!isNumber || since1970 < 0 || since1970 > 253402300799) { // which is in the year 9999
			return invalid("The token has an %s that is not a number of seconds since 1970. Are they milliseconds, or is it text?", name)
		}
		times[name] = time.UnixMilli(int64(since1970 * 1000))
	}
	expires := times["exp"]
	switch {
	case errors.Is(problem, jwt.ErrTokenExpired), errors.Is(problem, jwt.ErrTokenRequiredClaimMissing): // to the parser, 0 is none
		return invalid("The token expired at %s. The server's clock says %s.", utc(expires), utc(now))
	case errors.Is(problem, jwt.ErrTokenNotValidYet):
		return invalid("The token is not valid before %s. The server's clock says %s.", utc(times["nbf"]), utc(now))
	case problem != nil:
		return invalid("The token has claims that cannot be used.")
	}
	if g.Until = expires; !now.Before(expires) {
		g.Until = expires.Add(leeway)
	}
	g.Subject, _ = claims["sub"].(string)
	const noList = "The token has topics that are not a list of strings."
	list, isList := claims["topics"].([]any)
	switch {
	case claims["topics"] == nil:
		return invalid("The token has no topics, the list of what it opens.")
	case !isList:
		return invalid(noList)
	case len(list) > maxTopics:
		return invalid("The token lists more than %d topics. A prefix such as private/orders/* covers many.", maxTopics)
	}
	for i, entry := range list {
		pattern, isText := entry.(string)
		switch {
		case !isText:
			return invalid(noList)
		case event.CheckPattern(pattern) != nil:
			return invalid("Entry %d of the token's topics is not the name of a topic: %s.", i+1, nameRule)
		}
		g.topics = append(g.topics, pattern)
	}
	return nil
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
