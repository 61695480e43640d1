package token

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"gin-sse/internal/event"
	"gin-sse/internal/secret"
)

// Issue returns a token that opens the topics for that long. Topics are names, or prefixes that end in "/*". The
// subject is for people who read the token, and may be empty. Issue returns an error for a token that no server
// would accept.
func Issue(key []byte, topics []string, subject string, lifetime time.Duration) (string, error) {
	if err := CheckKey(key); err != nil {
		return "", err
	}
	if lifetime < time.Second {
		return "", fmt.Errorf("a token cannot be valid for %v: it takes a second or more", lifetime)
	}
	if len(topics) == 0 || len(topics) > maxTopics {
		return "", fmt.Errorf("a token cannot list %d topics: it takes 1 to %d", len(topics), maxTopics)
	}
	for _, topic := range topics {
		if err := event.CheckPattern(topic); err != nil {
			return "", err
		}
	}
	claims := jwt.MapClaims{"topics": topics, "exp": time.Now().Add(lifetime).Unix()}
	if subject != "" {
		claims["sub"] = subject
	}
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign the token: %w", err)
	}
	if len(text) > maxBytes {
		return "", fmt.Errorf("the token has %d bytes, and servers accept up to %d: list fewer topics, or a prefix such as private/orders/*", len(text), maxBytes)
	}
	return text, nil
}

// Command is "gin-sse token". It prints a token for trying things out, signed with the first key; args are the arguments
// after "token".
func Command(args []string, keys *secret.List, public []string, out io.Writer) error {
	const example = "gin-sse token private/orders/alice --for 1h"
	flags := flag.NewFlagSet("token", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	lasts := flags.String("for", "1h", "")
	subject := flags.String("sub", "", "")
	var topics []string
	for len(args) > 0 { // package flag stops at the first topic
		if err := flags.Parse(args); err != nil {
			return fmt.Errorf("%w: give one topic or more, --for a duration, and --sub a name if you like, as in %s", err, example)
		}
		if args = flags.Args(); len(args) > 0 {
			topics, args = append(topics, args[0]), args[1:]
		}
	}

	lifetime, err := time.ParseDuration(*lasts)
	switch {
	case err != nil || lifetime < time.Second:
		return fmt.Errorf("--for %q cannot be used: it takes a duration of a second or more, such as 30m or 24h", *lasts)
	case len(topics) == 0:
		return errors.New("a token needs a topic, as in " + example)
	case len(keys.All()) == 0:
		return errors.New("SUBSCRIBE_KEY is not set: a token is signed with the same SUBSCRIBE_KEY that the server has")
	}
	for _, topic := range topics {
		if event.CheckPattern(topic) == nil && event.Public(public).Covers(topic) {
			return fmt.Errorf("%q needs no token: only topics that begin with private/ do, and those that are not in PUBLIC_TOPICS", topic)
		}
	}
	text, err := Issue(keys.All()[0].Value, topics, *subject, lifetime)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, text)
	return err
}
