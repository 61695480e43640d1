package token

import (
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"gin-sse/internal/event"
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
