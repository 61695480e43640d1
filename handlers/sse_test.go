package handlers_test

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gin-sse/handlers"
	"gin-sse/internal/testsse"
	"gin-sse/internal/token"
)

func TestStreamHasTheTutorialsHeadersAndFrames(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, handlers.Options{})
		s.tick(map[string]string{"message": "one"})
		head, nothing := s.ask(http.MethodHead, "/sse", nil, "")
		stream := s.get("/sse")
		for _, response := range []*http.Response{head, stream} {
			if response.Proto != p.proto || response.StatusCode != http.StatusOK {
				t.Errorf("%s is answered with %s %s, want %s 200 OK", response.Request.Method, response.Proto, response.Status, p.proto)
			}
			for name, want := range map[string]string{
				"Content-Type":      "text/event-stream",
				"Cache-Control":     "no-cache, no-transform",
				"X-Accel-Buffering": "no",
				"Connection":        map[bool]string{true: "keep-alive"}[response.ProtoMajor == 1], // HTTP/2 forbids it
			} {
				if got := strings.Join(response.Header[name], ", "); got != want {
					t.Errorf("%s: %s is %q, want %q", response.Request.Method, name, got, want)
				}
			}
		}
		if nothing != "" {
			t.Errorf("HEAD is answered with the body %q", nothing)
		}

		s.tick(map[string]string{"message": "two"})
		s.close()
		text, err := io.ReadAll(stream.Body) // an error if the end is missing
		if err != nil {
			t.Fatal(err)
		}
		want := "data:{\"message\":\"one\"}\n\ndata:{\"message\":\"two\"}\n\n"
		if _, got := testsse.CutFirst(t, string(text)); got != want {
			t.Errorf("the stream has %q, want %q", got, want)
		}
	})
}

// This is the place to change when the text that the page shows every second is changed.
func TestTheClockSendsTheServersTime(t *testing.T) {
	t.Parallel()
	s := start(t, handlers.Options{})
	for hour, want := range map[int]string{
		14: `{"message":"Server Time: 2:03:25 PM"}`,
		0:  `{"message":"Server Time: 12:03:25 AM"}`,
	} {
		handlers.SimulateData(s.events)(time.Date(2026, 1, 2, hour, 3, 25, 0, time.UTC))
		stream := s.follow("/sse", nil) // which begins with the latest tick
		if got, _ := stream.Text(); got != want {
			t.Errorf("the clock sends %s, want %s; if you changed that text, change it here, in handlers/sse_test.go, as well", got, want)
		}
		stream.Leave()
	}
}

func TestThirdPartyClientSeesEveryTickInOrder(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, handlers.Options{})
		s.tick(0)
		stream := s.follow("/sse", nil)
		for n := range 100 {
			stream.Wants(fmt.Sprint(n))
			s.tick(n + 1)
		}
	})
}

func TestLastEventIDComesFromTheHeaderOrElseTheAddress(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, handlers.Options{})
		var ids []string
		for n := range 4 {
			ids = append(ids, s.send(n))
		}
		s.close() // each stream ends after what it missed
		for _, test := range []struct {
			query, header string
			want          []string
		}{
			{"", "", nil},
			{"", ids[1], []string{"2", "3"}},
			{"?lastEventId=" + ids[0], "", []string{"1", "2", "3"}},
			{"?lastEventId=" + ids[0], ids[2], []string{"3"}}, // an EventSource that reconnects has a newer one in the header
			{"?lastEventId=" + url.QueryEscape("\r\n\x00"), "", []string{`{}`, "0", "1", "2", "3"}},
			{"", strings.Repeat("9", 10<<10), []string{`{}`, "0", "1", "2", "3"}},
		} {
			header := http.Header{}
			if test.header != "" {
				header.Set("Last-Event-ID", test.header)
			}
			_, text := s.ask(http.MethodGet, "/sse"+test.query, header, "")
			var got []string
			for _, event := range testsse.Events(t, text) {
				got = append(got, event.Data)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%q with %.20q: got %q, want %q", test.query, test.header, got, test.want)
			}
		}
	})
}

func TestATopicReachesItsFollowersAloneAndTicksTheDefaultTopicAlone(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, handlers.Options{})
		s.tick("tick")
		twenty := ""
		for n := range 19 {
			twenty += fmt.Sprint("topic=", n, "&")
		}
		type client struct {
			query string
			want  []string
			*testsse.Stream
		}
		clients := []client{
			{query: "", want: []string{"default"}},
			{query: "topic=a", want: []string{"a"}},
			{query: "topic=a&topic=a", want: []string{"a"}},
			{query: "topic=a/b&topic=b", want: []string{"a/b", "b"}},
			{query: "topic=a/*", want: []string{"a/b", "a/b/c"}},
			{query: "topic=a/b/*", want: []string{"a/b/c"}},
			{query: "topic=*", want: []string{"a", "a/b", "a/b/c", "ab", "A", "b"}},
			{query: "topic=a/*&topic=*&topic=a&topic=a/b", want: []string{"a", "a/b", "a/b/c", "ab", "A", "b"}},
			{query: twenty + "topic=a", want: []string{"a"}},
			{query: twenty + "topic=a/*", want: []string{"a/b", "a/b/c"}},
			{query: "topic=nobody"},
			{query: "topic=private"},
		}
		for i := range clients {
			clients[i].Stream = s.follow("/sse?"+clients[i].query, nil)
		}
		for _, topic := range []string{"a", "", "a/b", "a/b/c", "ab", "A", "private/a", "b"} {
			path := "/sse"
			if topic != "" {
				path += "?topic=" + topic
			}
			s.publish(path, authorized("application/json"), `"`+cmp.Or(topic, "default")+`"`)
		}
		s.tick("tock")
		s.close()
		for _, c := range clients {
			want := []string{}
			for _, topic := range c.want {
				want = append(want, `"`+topic+`"`)
			}
			live := c.Rest()
			if c.query == "" {
				want = []string{`"tick"`, `"default"`, `"tock"`}
			}
			if !slices.Equal(live, want) {
				t.Errorf("?%s got %q, want %q", c.query, live, want)
			}
			if c.query == "" {
				want = []string{`"tock"`, `"default"`} // the latest tick, and what is kept
			}
			if got := s.follow("/sse?lastEventId=earliest&"+c.query, nil).Rest(); !slices.Equal(got, want) {
				t.Errorf("?%s has kept %q, want %q", c.query, got, want)
			}
		}
	})
}

func TestOnlyClientsThatMissSomethingGetAGap(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, handlers.Options{History: new(2)})
		var ids []string
		for _, topic := range []string{"b", "a/x", "a/x", "a/x", "a/x", "a/y", "b"} {
			_, answer := s.publish("/sse?topic="+topic, authorized("application/json"), fmt.Sprintf(`"%s %d"`, topic, len(ids)))
			ids = append(ids, answer["id"])
		}
		s.close()
		for _, test := range []struct {
			query, after string
			want         []string
		}{
			{"topic=b", ids[0], []string{`"b 6"`}},
			{"topic=a/y&topic=b", ids[0], []string{`"a/y 5"`, `"b 6"`}},
			{"topic=a/x", ids[0], []string{`"a/x 1"`, `"a/x 2"`, `"a/x 3"`, `"a/x 4"`}}, // it was here not long ago
			{"topic=a/x&topic=b", ids[1], []string{`"a/x 2"`, `"a/x 3"`, `"a/x 4"`, `"b 6"`}},
			{"topic=a/x", ids[2], []string{`"a/x 3"`, `"a/x 4"`}},
			{"topic=a/x", ids[5], nil},
			{"topic=a/*", ids[1], []string{`"a/x 2"`, `"a/x 3"`, `"a/x 4"`, `"a/y 5"`}},
			{"topic=a/*", ids[2], []string{`"a/x 3"`, `"a/x 4"`, `"a/y 5"`}},
			{"topic=a/x", "other-1", []string{`gap {}`, `"a/x 3"`, `"a/x 4"`}},
			{"topic=a/x", strings.Replace(ids[0], "-1", "-18446744073709551615", 1), []string{`gap {}`, `"a/x 3"`, `"a/x 4"`}},
			{"topic=a/x&topic=b", "earliest", []string{`"b 0"`, `gap {}`, `"a/x 3"`, `"a/x 4"`, `"b 6"`}},
			{"topic=*", "earliest", []string{`"b 0"`, `gap {}`, `"a/x 3"`, `"a/x 4"`, `"a/y 5"`, `"b 6"`}},
			{"topic=a/x", "earliest", []string{`gap {}`, `"a/x 3"`, `"a/x 4"`}},
			{"topic=nobody", "earliest", nil},
			{"topic=a/x", "", nil},
		} {
			if got := s.follow("/sse?"+test.query, http.Header{"Last-Event-Id": {test.after}}).Rest(); !slices.Equal(got, test.want) {
				t.Errorf("%s after %q in the header: got %q, want %q", test.query, test.after, got, test.want)
			}
			if test.after == "" {
				continue // which the address cannot say
			}
			if got := s.follow("/sse?lastEventId="+test.after+"&"+test.query, nil).Rest(); !slices.Equal(got, test.want) {
				t.Errorf("%s after %q in the address: got %q, want %q", test.query, test.after, got, test.want)
			}
		}
	})
}

func TestAnEndedTopicEndsItsStreamsAndTakesNothingMore(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, handlers.Options{})
		alone, both, wild := s.follow("/sse?topic=a/x", nil), s.follow("/sse?topic=a/x&topic=b", nil), s.follow("/sse?topic=a/*", nil)
		_, first := s.publish("/sse?topic=a/x", authorized("application/json"), `1`)
		_, last := s.publish("/sse?topic=a/x&event=done&end=true", authorized("application/json"), `2`)
		if got := alone.Rest(); !slices.Equal(got, []string{"1", "done 2"}) {
			t.Errorf("a client that follows nothing else got %q", got)
		}
		for _, f := range []*testsse.Stream{both, wild} {
			f.Wants("1", "done 2")
		}
		for _, test := range []struct {
			after string
			want  []string
		}{{"", []string{"1", "done 2"}}, {"earliest", []string{"1", "done 2"}}, {first["id"], []string{"done 2"}}} {
			if got := s.follow("/sse?topic=a/x", http.Header{"Last-Event-Id": {test.after}}).Rest(); !slices.Equal(got, test.want) {
				t.Errorf("a client that comes late, with %q, got %q, want %q", test.after, got, test.want)
			}
		}
		if response, text := s.ask(http.MethodGet, "/sse?topic=a/x", http.Header{"Last-Event-Id": {last["id"]}}, ""); response.StatusCode != http.StatusNoContent || text != "" {
			t.Errorf("a client that has seen the end gets %d and %q", response.StatusCode, text)
		}
		for _, path := range []string{"/sse?topic=a/x", "/sse?topic=a/x&end=true"} {
			if response, fields := s.publish(path, authorized("application/json"), `3`); response.StatusCode != http.StatusConflict || !strings.HasPrefix(fields["error"], "This topic has ended.") {
				t.Errorf("%s is answered with %d and %v", path, response.StatusCode, fields)
			}
		}
		s.publish("/sse?topic=b", authorized("application/json"), `4`)
		s.publish("/sse?topic=a/y", authorized("application/json"), `5`)
		both.Wants("4")
		wild.Wants("5")
		s.publish("/sse?topic=b&end=true", authorized("application/json"), `6`)
		if got := both.Rest(); !slices.Equal(got, []string{"6"}) {
			t.Errorf("when the other topic has ended as well, the stream ends with %q", got)
		}
	})
}

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
		s := p.start(t, handlers.Options{})
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
			if response, text := s.ask(http.MethodPost, "/sse?topic=cpu&end=true&replace=true", http.Header{"Authorization": {"Bearer " + publishToken}}, ""); response.StatusCode != http.StatusAccepted {
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
	s := start(t, handlers.Options{SubscribeKeys: handlers.Secrets(subscribeKey)})
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

func TestAHundredTopicsAreFollowedAndMoreHeadersThan16KiBAreRefusedWithAdvice(t *testing.T) {
	t.Parallel()
	s := start(t, handlers.Options{})
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
