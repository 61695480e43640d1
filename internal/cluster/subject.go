package cluster

import (
	"slices"
	"strings"

	"gin-sse/internal/hub"
)

// The default topic has the stream's name as its subject, and all others are below: a/b.c is sse.a.b:c
// in the stream sse. A dot becomes a colon, which no topic has, because NATS takes a dot for what a
// slash is in a topic.
//
// These two subjects belong to no topic, as no topic has a dollar sign.
const (
	epochToken = "$epoch" // its newest message has the epoch, see epoch.go
	endedToken = "$ended" // for keys of messages to topics that have ended, see Publish
)

// subjectOf returns the subject of a topic's messages.
func subjectOf(stream, topic string) string {
	if topic == "" {
		return stream
	}
	return stream + "." + strings.Map(func(r rune) rune {
		switch r {
		case '/':
			return '.'
		case '.':
			return ':'
		}
		return r
	}, topic)
}

// topicOf returns the topic whose messages have that subject. Anybody may publish to subjects that belong to none.
func topicOf(stream, subject string) (topic string, is bool) {
	if subject == stream {
		return "", true
	}
	tokens, below := strings.CutPrefix(subject, stream+".")
	topic = strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case ':':
			return '.'
		}
		return r
	}, tokens)
	// The way back tells apart sse.a.b and sse.a/b, of which only the first is a topic's.
	return topic, below && topic != "" && hub.CheckTopic(topic) == nil && subjectOf(stream, topic) == subject
}

// missing returns which subjects a stream lacks to take messages of all topics.
func missing(stream string, subjects []string) []string {
	return slices.DeleteFunc([]string{stream, stream + ".>"}, func(needed string) bool {
		return slices.ContainsFunc(subjects, func(subject string) bool { return covers(subject, needed) })
	})
}

// covers tells whether everything that a subject matches is matched by a pattern as well.
func covers(pattern, subject string) bool {
	tokens, needed := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, token := range tokens {
		switch {
		case i >= len(needed):
			return false
		case token == ">":
			return true
		case needed[i] == ">" || token != "*" && token != needed[i]:
			return false
		}
	}
	return len(tokens) == len(needed)
}
