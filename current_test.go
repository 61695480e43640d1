package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"gin-sse/internal/token"
)

// brief is a stream in short: its fields but the ids and times, an event in each line.
func brief(text string) string {
	text = regexp.MustCompile(`(?m)^(retry|id|time):.*\n`).ReplaceAllString(text, "")
	return strings.ReplaceAll(strings.TrimSuffix(strings.ReplaceAll(text, "\n\n", "|"), "|"), "\n", " ")
}

// kept returns what ?follow=false answers.
func (s *site) kept(query string) string {
	s.t.Helper()
	response, text := s.ask(http.MethodGet, "/sse?follow=false&"+query, nil, "")
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("?%s is answered with %s and %q", query, response.Status, text)
	}
	return brief(text)
}

const (
	loading = `event:position data:{"live":false}`
	live    = `event:position data:{"live":true}`
)

func TestCurrentValuesOfTopicsAreReadAndReplaced(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil)
		for n := range 3 {
			for _, topic := range []string{"cpu", "load"} {
				s.publish("/sse?topic="+topic, authorized("application/json"), fmt.Sprint(n))
			}
		}
		for query, want := range map[string]string{
			"topic=cpu&lastEventId=latest":            loading + "|topic:cpu data:2|" + live,
			"topic=cpu&topic=load&lastEventId=latest": loading + "|topic:cpu data:2|topic:load data:2|" + live,
			"topic=*&lastEventId=latest":              loading + "|topic:cpu data:2|topic:load data:2|" + live,
			"topic=cpu":                               loading + "|topic:cpu data:0|topic:cpu data:1|topic:cpu data:2|" + live,
			"topic=nobody&_=1":                        live,
		} {
			if got := s.kept(query); got != want {
				t.Errorf("?%s: %q, want %q", query, got, want)
			}
		}
		_, answer := s.publish("/sse?topic=cpu&replace=true", authorized("application/json"), `"whole"`)
		if got, want := s.kept("topic=cpu&lastEventId=earliest"), loading+`|topic:cpu data:"whole"|`+live; got != want {
			t.Errorf("what replaces: %q, want %q", got, want)
		}
		if got, want := s.kept("topic=cpu&lastEventId="+answer["id"]), live; got != want {
			t.Errorf("after it: %q, want %q", got, want)
		}
		for range 2 { // what has ended can be erased, too
			if response, text := s.ask(http.MethodPost, "/sse?topic=cpu&end=true&replace=true", http.Header{"Authorization": {"Bearer " + secret}}, ""); response.StatusCode != http.StatusAccepted {
				t.Errorf("erasing is answered with %s and %q", response.Status, text)
			}
		}
		if got := s.kept("topic=cpu&lastEventId=earliest"); got != live {
			t.Errorf("an erased topic has %q", got)
		}
		if response, _ := s.publish("/sse?topic=cpu", authorized("application/json"), "1"); response.StatusCode != http.StatusConflict {
			t.Errorf("publishing to it is answered with %s", response.Status)
		}
	})
}

func TestAStreamSaysWhenItIsLiveAndWhenItEnds(t *testing.T) {
	t.Parallel()
	s := start(t, "SUBSCRIBE_KEY="+subscribeKey)
	_, answer := s.publish("/sse?topic=private/a", authorized("application/json"), "1")
	s.publish("/sse?topic=private/a", authorized("application/json"), "2")
	bearer, err := token.Issue([]byte(subscribeKey), []string{"private/a"}, "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{"Authorization": {"Bearer " + bearer}}
	response := s.open("/sse?topic=private/a&lastEventId="+answer["id"], header)
	s.stop()
	text, err := io.ReadAll(response.Body)
	want := regexp.MustCompile(`^event:position data:{"live":false,"expires":(\d{10})}\|topic:private/a data:2\|event:position data:{"live":true,"expires":(\d{10})}$`)
	found := want.FindStringSubmatch(brief(string(text)))
	if err != nil || found == nil || found[1] != found[2] {
		t.Errorf("got %q, %v", brief(string(text)), err)
	}
	if !regexp.MustCompile(`\ntime:1\d{12}\n`).Match(text) {
		t.Errorf("a message has no time in %q", text)
	}
}

func TestNothingInAQueryIsIgnored(t *testing.T) {
	t.Parallel()
	s := start(t)
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
	s := start(t)
	for _, test := range []struct{ query, contentType, body, want string }{
		{"", "application/json", `{"topic":"orders/8","data":1}`, "POST /sse?topic=orders/8"},
		{"", "application/json", `{"topic":["a"],"data":1}`, "POST /sse?topic=orders/7"},
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

func TestAHundredTopicsAreFollowedAndMoreHeadersThan16KiBAreRefusedWithAdvice(t *testing.T) {
	t.Parallel()
	s := start(t)
	names := func(size int) (query string) {
		for n := range 100 {
			query += "&topic=" + url.QueryEscape(fmt.Sprintf("%0*d", size, n))
		}
		return "/sse?" + query[1:]
	}
	f := s.follow(names(100), nil)
	s.publish(fmt.Sprintf("/sse?topic=%0*d", 100, 99), authorized("application/json"), `"to one of them"`)
	f.Wants(`"to one of them"`)
	if response, text := s.ask(http.MethodGet, names(180), nil, ""); response.StatusCode != http.StatusRequestHeaderFieldsTooLarge || !strings.Contains(text, "wildcard, such as topic=orders/*") {
		t.Errorf("headers of more than 16 KiB are answered with %s and %q", response.Status, text)
	}
}
