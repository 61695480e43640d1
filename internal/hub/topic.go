package hub

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

const (
	maxTopics  = 20  // that one subscriber follows
	maxTopic   = 200 // bytes of a topic's name
	maxName    = 64  // bytes of an event's name
	private    = "private/"
	nameBytes  = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
	topicBytes = nameBytes + "/"
)

// CheckName returns an error that says what is wrong with an event's name, or nil. The names of events that the
// hub, EventSource and SharedEventSource have themselves are refused, because a page could not tell the two
// apart. An empty name means that the event has none.
func CheckName(name string) error {
	reserved := []string{"open", "error", "statechange", "gap", "position"}
	if len(name) > maxName || strings.Trim(name, nameBytes) != "" || slices.Contains(reserved, name) {
		return fmt.Errorf("%q is no name for an event: it takes 1 to %d letters, digits, dots, underscores or hyphens, and none of %s", name, maxName, strings.Join(reserved, ", "))
	}
	return nil
}

// CheckTopic returns an error that says what is wrong with the name of a topic to publish to, or nil.
// The empty name is the default topic.
func CheckTopic(name string) error {
	if name != "" && !isTopic(name) {
		return fmt.Errorf("%q is no topic: it takes 1 to %d letters, digits, dots, underscores, hyphens or slashes, and no empty part between slashes", name, maxTopic)
	}
	return nil
}

func isTopic(name string) bool {
	return len(name) <= maxTopic && strings.Trim(name, topicBytes) == "" && !slices.Contains(strings.Split(name, "/"), "")
}

// Topics is a set of topics to follow. The zero value is the default topic alone. Two sets are equal if
// they match the same topics.
type Topics struct {
	joined string // the sorted names, a line each; none is covered by another one
}

// ParseTopics returns the set with these names, at most 20. A name whose last part is * stands for all
// topics below, at any depth; * alone stands for every topic but the default one and private ones. No
// names at all are the default topic.
func ParseTopics(names []string) (Topics, error) {
	if len(names) > maxTopics {
		return Topics{}, fmt.Errorf("%d topics are too many: one subscriber follows up to %d", len(names), maxTopics)
	}
	for _, name := range names {
		if !isTopic(strings.TrimSuffix(name, "/*")) && name != "*" || len(name) > maxTopic {
			return Topics{}, fmt.Errorf("%q is no topic to follow: it takes 1 to %d letters, digits, dots, underscores, hyphens or slashes, no empty part between slashes, and * only as the last part", name, maxTopic)
		}
	}
	var set []string
	for _, name := range names {
		covered := slices.ContainsFunc(names, func(other string) bool { return other != name && covers(other, name) })
		if !covered {
			set = append(set, name)
		}
	}
	slices.Sort(set)
	set = slices.Compact(set)
	// A single name would still be a part of the query, which may be much longer, and keep all of it in memory.
	return Topics{strings.Clone(strings.Join(set, "\n"))}, nil
}

// Names returns the set's names, sorted, without those that another one covers. The default topic is
// the empty name.
func (t Topics) Names() []string { return strings.Split(t.joined, "\n") }

// covers reports whether the pattern matches everything that the name matches.
func covers(pattern, name string) bool {
	for key := range Keys(name) {
		if key == indexKey(pattern) {
			return true
		}
	}
	return false
}

// indexKey returns the key of a name in a set: the name itself, or for a wildcard the part before its *. The
// key of * alone is *, because the empty name is the default topic.
func indexKey(name string) string {
	if strings.HasSuffix(name, "/*") {
		return name[:len(name)-1]
	}
	return name
}

// IsWildcard reports whether a key is that of a wildcard, not that of a topic.
func IsWildcard(key string) bool { return key == "*" || strings.HasSuffix(key, "/") }

// Keys yields the keys under which a topic's subscribers are found: its own name, and for every wildcard that matches
// it, the part before the *. The key of * alone is *.
func Keys(topic string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if !yield(topic) {
			return
		}
		if topic != "" && topic != "*" && !strings.HasPrefix(topic, private) && !yield("*") {
			return
		}
		for i := range len(topic) {
			if topic[i] == '/' && !yield(topic[:i+1]) {
				return
			}
		}
	}
}
