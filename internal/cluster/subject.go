package cluster

import (
	"strings"

	"gin-sse/internal/event"
)

// The default topic has the stream's name as its subject, and the subjects of all others are below it: in the
// stream sse, the topic a/b.c has the subject sse.a.b:c. A dot separates the parts of a subject as a slash
// separates those of a topic, so a topic's own dots become colons, which no topic has.
//
// These subjects belong to no topic, because no topic has a dollar sign.
const (
	epochToken = "$epoch" // its newest message names the epoch, see epoch.go
	endedToken = "$ended" // takes the keys of messages to topics that have ended, see probe
	keyToken   = "$key"   // takes the receipts of keys, see keys.go
	syncToken  = "$sync"  // never takes any, see sync
)

// liveSubject returns the subject on which NATS sends a stored message on.
func (r *Replica) liveSubject(subject string) string { return r.cfg.Stream + "-live." + subject }

// subjectOfPattern returns the subject of all messages of a pattern.
func subjectOfPattern(stream string, pattern event.Pattern) string {
	if pattern == "*" {
		return stream + ".>"
	}
	if topic, below := strings.CutSuffix(string(pattern), "/*"); below {
		return subjectOf(stream, topic) + ".>"
	}
	return subjectOf(stream, string(pattern))
}

// subjectOf returns the subject of a topic's messages.
func subjectOf(stream, topic string) string {
	if topic == "" {
		return stream
	}
	return stream + "." + strings.NewReplacer("/", ".", ".", ":").Replace(topic)
}

// topicOf returns the topic whose messages have that subject. Any program may publish to subjects that belong to no
// topic.
func topicOf(stream, subject string) (topic string, is bool) {
	if subject == stream {
		return "", true
	}
	tokens, below := strings.CutPrefix(subject, stream+".")
	topic = strings.NewReplacer(".", "/", ":", ".").Replace(tokens)
	// Without the way back, sse.a/b would pass for sse.a.b: both lead to the topic a/b.
	return topic, below && topic != "" && event.CheckTopic(topic) == nil && subjectOf(stream, topic) == subject
}
