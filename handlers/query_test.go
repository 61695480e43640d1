package handlers_test

import (
	"net/http"
	"strings"
	"testing"

	"gin-sse/handlers"
	"gin-sse/internal/hub"
)

func TestNothingInAQueryIsIgnored(t *testing.T) {
	t.Parallel()
	s := start(t, handlers.Options{})
	for _, test := range []struct{ method, query, want string }{
		{"GET", "topics=a", `"topics" is unknown in the query of a GET: write topic=NAME, once for each topic`},
		{"GET", "topic[]=a", "write topic=NAME"},
		{"GET", "Topic=a", "write topic=NAME"},
		{"GET", "channel=a", "write topic=NAME"},
		{"GET", "lastEventID=x", "write lastEventId=ID"},
		{"GET", "last_event_id=x", "write lastEventId=ID"},
		{"GET", "last-event-id=x", "write lastEventId=ID"},
		{"GET", "Last-Event-ID=x", "write lastEventId=ID"},
		{"GET", "lastEventId=a&lastEventId=b", `"lastEventId" is in the query twice`},
		{"GET", "lastEventId=", `"lastEventId" is empty`},
		{"GET", "follow=true", `follow="true" is unknown`},
		{"GET", "whatever=1", `"whatever" is unknown in the query of a GET: it accepts topic, lastEventId and follow`},
		{"POST", "topic=a&replace=yes", `replace="yes" is unknown`},
		{"POST", "topic=a&end=1", `end="1" is unknown`},
		{"POST", "channel=a", "write topic=NAME"},
		{"POST", "type=a", "write event=NAME"},
		{"POST", "topic=a&retain=true", "write replace=true"},
		{"POST", "topic=a&lastEventId=1", `"lastEventId" is unknown in the query of a POST: it accepts topic, event, end and replace`},
	} {
		response, text := s.ask(test.method, "/sse?"+test.query, authorized("application/json"), "{}")
		if response.StatusCode != http.StatusBadRequest || !strings.Contains(strings.ReplaceAll(text, `\"`, `"`), test.want) {
			t.Errorf("%s ?%s: %s and %q, want %q", test.method, test.query, response.Status, text, test.want)
		}
	}
	if response, text := s.ask(http.MethodPost, "/sse?topic=a&_cache=1", authorized("application/json"), "{}"); response.StatusCode != http.StatusAccepted {
		t.Errorf("a parameter of the client's own: %s and %q", response.Status, text)
	}
}

func TestATopicInTheBodyIsNoMessageToEverybody(t *testing.T) {
	t.Parallel()
	s := start(t, handlers.Options{})
	for _, test := range []struct{ query, contentType, body, want string }{
		{"", "application/json", `{"topic":"orders/8","data":1}`, "POST /sse?topic=orders/8"},
		{"", "application/json", `{"topic":["a"],"data":1}`, "POST /sse?topic=orders/7"},
		{"", "application/json", `{"topic":"a","data":1e999}`, "POST /sse?topic=a"},
		{"", "application/x-www-form-urlencoded", "topic=a&data=1", "POST /sse?topic=a"},
		{"", "application/x-ndjson", "{\"n\":1}\n{\"topic\":\"a\"}\n", "Line 2 cannot be published"},
		{"?topic=b", "application/json", `{"topic":"a"}`, ""},
		{"", "application/json", `{"data":{"topic":"a"}}`, ""},
		{"", "application/json", `["topic"]`, ""},
	} {
		status := http.StatusBadRequest
		if test.want == "" {
			status = http.StatusAccepted
		}
		response, text := s.ask(http.MethodPost, "/sse"+test.query, authorized(test.contentType), test.body)
		if response.StatusCode != status || !strings.Contains(text, test.want) {
			t.Errorf("%s: %s and %q, want %d and %q", test.body, response.Status, text, status, test.want)
		}
	}
}

func TestATopicThatCannotBeIsRefusedAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := start(t, handlers.Options{})
	query := strings.Repeat("&topic=a", 101)
	if response, text := s.ask(http.MethodGet, "/sse?"+query[1:], nil, ""); response.StatusCode != 400 || !strings.Contains(text, "101 topics are too many: one subscriber follows up to 100.") {
		t.Errorf("101 topics are answered with %d and %q", response.StatusCode, text)
	}
	for _, name := range []string{
		"", "/", "/a", "a/", "a//b", "a%20b", "a+b", "%C3%A9", "a%00", "a%0Aid:1", "a,b", "a*", "*a", "a/*b", "*/a", "a/*/b", "**", "a/**", "%2A%2A",
		"a:b", "a?b", "a%23", "~", "private/", "private//a", "%zz", strings.Repeat("x", 201), strings.Repeat("x", 199) + "/*",
	} {
		for method, header := range map[string]http.Header{http.MethodGet: nil, http.MethodHead: nil, http.MethodPost: authorized("application/json")} {
			response, text := s.ask(method, "/sse?topic="+name, header, "{}")
			if response.StatusCode != http.StatusBadRequest || method != http.MethodHead && !strings.HasPrefix(text, `{"error":"`) {
				t.Errorf("%s of topic %.20q is answered with %d and %q", method, name, response.StatusCode, text)
			}
		}
		if response, text := s.ask(http.MethodGet, "/sse?topic=a&topic="+name, nil, ""); response.StatusCode != http.StatusBadRequest {
			t.Errorf("%.20q beside a good topic is answered with %d and %q", name, response.StatusCode, text)
		}
	}
	if s.events.Stats() != (hub.Stats{}) {
		t.Errorf("what was refused left %+v", s.events.Stats())
	}
}
