package cluster

import (
	"strings"
	"testing"

	"gin-sse/internal/event"
)

func TestTopicsAndSubjectsLeadToEachOther(t *testing.T) {
	t.Parallel()
	for topic, subject := range map[string]string{
		"":                             "sse",
		"news":                         "sse.news",
		"orders/7":                     "sse.orders.7",
		"a/b.c":                        "sse.a.b:c",
		"../.":                         "sse.::.:",
		"v1.2/x_y-Z":                   "sse.v1:2.x_y-Z",
		"private/orders/alice":         "sse.private.orders.alice",
		strings.Repeat("a/", 99) + "b": "sse." + strings.Repeat("a.", 99) + "b",
	} {
		if got := subjectOf("sse", topic); got != subject {
			t.Errorf("the subject of %q is %q, want %q", topic, got, subject)
		}
		if got, is := topicOf("sse", subject); got != topic || !is {
			t.Errorf("the topic of %q is %q and %v, want %q", subject, got, is, topic)
		}
	}
	for _, subject := range []string{"other", "sse2", "sse2.a", "sse.", "sse.a/b", "sse.a..b", "sse.$epoch", "sse.$ended", "sse.é", "sse.a b", "sse.*", "sse." + strings.Repeat("x", 201)} {
		if topic, is := topicOf("sse", subject); is {
			t.Errorf("%q is the subject of %q, want none", subject, topic)
		}
	}
}

func FuzzTopicsHaveSubjectsOfTheirOwn(f *testing.F) {
	f.Add("a/b", "a.b")
	f.Add("a/b.c", "a:b.c")
	f.Fuzz(func(t *testing.T, a, b string) {
		if event.CheckTopic(a) != nil || event.CheckTopic(b) != nil {
			return
		}
		if back, is := topicOf("sse", subjectOf("sse", a)); back != a || !is {
			t.Errorf("%q comes back as %q and %v", a, back, is)
		}
		if a != b && subjectOf("sse", a) == subjectOf("sse", b) {
			t.Errorf("%q and %q have one subject", a, b)
		}
	})
}
