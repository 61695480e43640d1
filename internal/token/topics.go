package token

import (
	"fmt"
	"strings"
)

// Private reports whether nobody may subscribe to the topic, or to the topics that a pattern covers,
// without a token. The pattern "*" covers public topics only, so it is not private.
func Private(topic string) bool { return strings.HasPrefix(topic, "private/") }

// covers reports whether a client whose token lists pattern may subscribe to the private topic. Both
// are names, or prefixes that end in "/*": "private/*" covers "private/builds/*", and never the reverse.
func covers(pattern, topic string) bool {
	if pattern == topic {
		return true
	}
	prefix, wildcard := strings.CutSuffix(pattern, "/*")
	return wildcard && strings.HasPrefix(topic, prefix+"/") // with the slash: builds/* is not buildsecret
}

// checkPattern says what is wrong with an entry of a token's topics.
func checkPattern(pattern string) error {
	if pattern == "*" {
		return nil
	}
	return checkTopic(strings.TrimSuffix(pattern, "/*"))
}

// nameRule is for errors about topics.
const nameRule = "it takes 1 to 200 letters, digits and signs of . _ - /, with something between the slashes, and * only as the whole last part"

// checkTopic says what is wrong with the name of a topic.
func checkTopic(name string) error {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/"
	if name == "" || len(name) > 200 || strings.Trim(name, plain) != "" || strings.Contains("/"+name+"/", "//") {
		return fmt.Errorf("%q is not the name of a topic: %s", name, nameRule)
	}
	return nil
}
