package event

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

const (
	maxTopics  = 100 // that one subscriber names
	maxTopic   = 200 // bytes of a topic's name
	private    = "private/"
	topicBytes = nameBytes + "/"
	after      = "0" // the byte after the slash
)

// CheckTopic returns an error that says what is wrong with the name of a topic to publish to, or nil.
// The empty name is the default topic.
func CheckTopic(name string) error {
	if name != "" && !isTopic(name) {
		return fmt.Errorf("%q is no topic: it takes 1 to %d letters, digits, dots, underscores, hyphens or slashes, and no empty part between slashes", name, maxTopic)
	}
	return nil
}

func isTopic(name string) bool {
	return len(name) <= maxTopic && strings.Trim(name, topicBytes) == "" && !strings.Contains("/"+name+"/", "//")
}

// IsPrivate reports whether a topic, or all topics that a pattern matches, need a token. The pattern * matches public
// topics only.
func IsPrivate(name string) bool { return strings.HasPrefix(name, private) }

// Pattern is what a subscriber names: a topic, or all topics below a name, at any depth, if its last part is *. The
// pattern * is every topic but the default one and private ones. The empty pattern is the default topic.
type Pattern string

// CheckPattern returns an error that says what is wrong with a pattern, or nil. The empty one is refused.
func CheckPattern(name string) error {
	if name != "*" && (!isTopic(strings.TrimSuffix(name, "/*")) || len(name) > maxTopic) {
		return fmt.Errorf("%q is no topic to follow: it takes 1 to %d letters, digits, dots, underscores, hyphens or slashes, no empty part between slashes, and * only as the last part", name, maxTopic)
	}
	return nil
}

// IsWildcard reports whether the pattern stands for the topics below a name.
func (p Pattern) IsWildcard() bool { return p == "*" || strings.HasSuffix(string(p), "/*") }

// Ranges yields the ranges of names, from first and before end, in which all topics are that a wildcard matches, and no
// others. There is no end if it is empty.
func (p Pattern) Ranges() iter.Seq2[string, string] {
	return func(yield func(first, end string) bool) {
		if p != "*" {
			yield(p.prefix(), p.prefix()[:len(p)-2]+after)
			return
		}
		_ = yield("-", private) && yield(private[:len(private)-1]+after, "")
	}
}

// prefix returns what the names of all topics below begin with.
func (p Pattern) prefix() string { return string(p[:len(p)-1]) }

// Matches reports whether the pattern matches a topic.
func (p Pattern) Matches(topic string) bool {
	switch {
	case p == "*":
		return topic != "" && !IsPrivate(topic)
	case p.IsWildcard():
		return strings.HasPrefix(topic, p.prefix())
	}
	return topic == string(p)
}

// Covers reports whether the pattern matches every topic that the other one matches.
func (p Pattern) Covers(other Pattern) bool {
	return p == other || p.IsWildcard() && other != "*" && p.Matches(string(other))
}

// Public is the patterns that anyone may follow.
type Public []string

// Covers reports whether anyone may follow a pattern: the default topic, and what one of the public patterns covers. Names
// below private/ never are.
func (p Public) Covers(pattern string) bool {
	return pattern == "" || !IsPrivate(pattern) && slices.ContainsFunc(p, func(public string) bool { return Pattern(public).Covers(Pattern(pattern)) })
}

// Check returns an error that says what is wrong with one of the patterns, or nil.
func (p Public) Check() error {
	for _, pattern := range p {
		if err := CheckPattern(pattern); err != nil {
			return err
		}
		if IsPrivate(pattern) {
			return fmt.Errorf("%q is never public: topics below private/ need a token", pattern)
		}
	}
	return nil
}

// Wildcards yields the wildcards that match a topic.
func Wildcards(topic string) iter.Seq[Pattern] {
	return func(yield func(Pattern) bool) {
		if Pattern("*").Matches(topic) && !yield("*") {
			return
		}
		for i := range len(topic) {
			if topic[i] == '/' && !yield(Pattern(topic[:i+1]+"*")) {
				return
			}
		}
	}
}

// Topics is a set of topics. The zero value is the default topic alone. Two sets are equal if they match the same
// topics.
type Topics struct {
	joined string // the sorted patterns, a line each; none is covered by another one
}

// ParseTopics returns the set that these patterns match together, at most 100. No patterns are the default topic.
func ParseTopics(names []string) (Topics, error) {
	if len(names) > maxTopics {
		return Topics{}, fmt.Errorf("%d topics are too many: one subscriber follows up to %d", len(names), maxTopics)
	}
	for _, name := range names {
		if err := CheckPattern(name); err != nil {
			return Topics{}, err
		}
	}
	var set []string
	for _, name := range names {
		covered := slices.ContainsFunc(names, func(other string) bool { return other != name && Pattern(other).Covers(Pattern(name)) })
		if !covered {
			set = append(set, name)
		}
	}
	slices.Sort(set)
	set = slices.Compact(set)
	// A single name would still be a part of the query, which may be much longer, and keep all of it in memory.
	return Topics{strings.Clone(strings.Join(set, "\n"))}, nil
}

// Patterns yields the patterns of the set, sorted, without those that another one covers.
func (t Topics) Patterns() iter.Seq[Pattern] {
	return func(yield func(Pattern) bool) {
		for rest, more := t.joined, true; more; {
			var name string
			if name, rest, more = strings.Cut(rest, "\n"); !yield(Pattern(name)) {
				return
			}
		}
	}
}

// Match reports whether one of the patterns matches a topic.
func (t Topics) Match(topic string) bool {
	for pattern := range t.Patterns() {
		if pattern.Matches(topic) {
			return true
		}
	}
	return false
}

// Only returns the set's pattern if it has no other.
func (t Topics) Only() (pattern Pattern, only bool) {
	return Pattern(t.joined), !strings.Contains(t.joined, "\n")
}

// Names returns the patterns as strings.
func (t Topics) Names() []string { return strings.Split(t.joined, "\n") }
