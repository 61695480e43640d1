// Package testcrowd lets many clients and publishers of a server, or of several replicas, do random things.
package testcrowd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tmaxmax/go-sse"

	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
)

// Replica is a server that the crowd uses.
type Replica struct {
	URL    string
	Client *http.Client
}

// FollowTopics lets publishers, which have that token, send to random topics. Clients with random tokens, which issue
// returns as a header, follow random ones. The clients leave again and again, and resume at any of the replicas. Each must
// get all that it may read, in order, and nothing else. A server must keep 1,000 messages of each topic.
func FollowTopics(t *testing.T, publishToken string, issue func(topics ...string) http.Header, replicas ...Replica) {
	const publishers, each, clients = 4, 60, 16
	ctx, cancel := context.WithTimeout(t.Context(), 2*testwait.Limit)
	defer cancel()
	seed := rand.Uint64()
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	topics := []string{"", "a", "a/x", "a/x/1", "ab", "b", "private", "private/a", "private/a/x", "private/ab", "private/b/y", "end"}
	names := []string{"a", "b", "a/x", "a/*", "*", "nobody", "private", "private/a", "private/a/x", "private/a/*", "private/ab", "private/b/*", "private/b/y", "private/*"}
	grants := []string{"private/a", "private/a/*", "private/b/*", "private/*", "a", "*"}

	type sent struct {
		number      int
		topic, data string
	}
	var mu sync.Mutex
	var all []sent
	publish := func(r Replica, topic, data string) {
		number, err := r.publish(ctx, publishToken, topic, data)
		for errors.Is(err, errBusy) && ctx.Err() == nil {
			number, err = r.publish(ctx, publishToken, topic, data) // with the same key
		}
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, sent{number, topic, data})
	}

	// A client has to have got everything before the last message.
	const end = `"end"`
	got, wanted := make([][]string, clients), make([][]string, clients)
	var reading, publishing sync.WaitGroup
	for i := range clients {
		reading.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			pick := func(from []string, n int) (some []string) {
				for range n {
					some = append(some, from[random.IntN(len(from))])
				}
				return some
			}
			granted, asked := pick(grants, random.IntN(3)), pick(names, 1+random.IntN(5))
			header := http.Header{}
			if len(granted) > 0 {
				header = issue(granted...)
			}
			mayRead := func(name string) bool {
				return !strings.HasPrefix(name, "private/") || slices.ContainsFunc(granted, func(grant string) bool { return covers(grant, name) })
			}
			if slices.ContainsFunc(asked, func(name string) bool { return !mayRead(name) }) {
				want := http.StatusForbidden
				if len(granted) == 0 {
					want = http.StatusUnauthorized
				}
				if got, err := replicas[0].status(ctx, "/sse?"+url.Values{"topic": asked}.Encode(), header); err != nil || got != want {
					t.Errorf("%q with a token for %q: status %d and %v, want %d", asked, granted, got, err, want)
				}
			}
			asked = slices.DeleteFunc(asked, func(name string) bool { return !mayRead(name) })
			wanted[i] = append(asked, "end")
			last := "earliest"
			for !slices.Contains(got[i], end) && !t.Failed() {
				r := replicas[random.IntN(len(replicas))]
				query := url.Values{"topic": wanted[i]}
				if header.Del("Last-Event-ID"); random.IntN(2) == 0 {
					query.Set("lastEventId", last)
				} else {
					header.Set("Last-Event-ID", last)
				}
				path := "/sse?" + query.Encode()
				more, next, err := r.read(ctx, path, header, random.IntN(30), end)
				if err != nil && (!errors.Is(err, errBusy) || ctx.Err() != nil) {
					t.Errorf("%s after %s: %v", path, last, err)
					return
				}
				got[i], last = append(got[i], more...), cmp.Or(next, last)
			}
		})
	}
	for i := range publishers {
		publishing.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(clients+i)))
			for n := range each {
				topic := topics[random.IntN(len(topics)-1)]
				publish(replicas[i%len(replicas)], topic, fmt.Sprintf(`"%s %d %d"`, topic, i, n))
			}
		})
	}
	publishing.Wait()
	publish(replicas[0], "end", end)
	reading.Wait()

	slices.SortFunc(all, func(a, b sent) int { return cmp.Compare(a.number, b.number) })
	for i, names := range wanted {
		want := []string{}
		for _, m := range all {
			if slices.ContainsFunc(names, func(name string) bool { return covers(name, m.topic) }) {
				want = append(want, m.data)
			}
		}
		if !slices.Equal(got[i], want) {
			t.Errorf("%q got %q, want %q", names, got[i], want)
		}
	}
}

// covers tells whether a pattern of a subscription or a token stands for the topic.
func covers(pattern, topic string) bool {
	below, wild := strings.CutSuffix(pattern, "*")
	switch {
	case pattern == "*":
		return topic != "" && !strings.HasPrefix(topic, "private/")
	case wild:
		return strings.HasPrefix(topic, below)
	}
	return pattern == topic
}

func (r Replica) do(ctx context.Context, method, path string, header http.Header, body string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, r.URL+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header = header.Clone()
	return r.Client.Do(request)
}

// errBusy is the error of a connection that broke, or of a publisher that is told to try again: on a machine that has much
// else to do, a server gives up what takes too long.
var errBusy = errors.New("interrupted")

// status returns what a request is answered with.
func (r Replica) status(ctx context.Context, path string, header http.Header) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, testwait.Limit)
	defer cancel()
	response, err := r.do(ctx, http.MethodGet, path, header, "")
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// publish sends JSON to a topic and returns the number of its id.
func (r Replica) publish(ctx context.Context, token, topic, data string) (number int, err error) {
	ctx, cancel := context.WithTimeout(ctx, testwait.Limit)
	defer cancel()
	path := "/sse"
	if topic != "" {
		path += "?topic=" + topic
	}
	header := http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}, "Idempotency-Key": {data}}
	response, err := r.do(ctx, http.MethodPost, path, header, data)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errBusy, err)
	}
	defer response.Body.Close()
	var answer struct{ ID, Error string }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return 0, fmt.Errorf("%w: the answer to %s: %w", errBusy, path, err)
	}
	if response.StatusCode == http.StatusServiceUnavailable {
		return 0, fmt.Errorf("%w: %s", errBusy, answer.Error)
	}
	if response.StatusCode != http.StatusAccepted {
		return 0, fmt.Errorf("%s is answered with %s: %s", path, response.Status, answer.Error)
	}
	_, digits, _ := strings.Cut(answer.ID, "-")
	return strconv.Atoi(digits)
}

// read reads the stream until so many events came or the last one did, and returns them and the id to resume from.
func (r Replica) read(ctx context.Context, path string, header http.Header, n int, end string) (got []string, last string, err error) {
	ctx, cancel := context.WithTimeout(ctx, testwait.Limit)
	defer cancel()
	response, err := r.do(ctx, http.MethodGet, path, header, "")
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errBusy, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, "", fmt.Errorf("it is answered with %s", response.Status)
	}
	for event, err := range sse.Read(response.Body, nil) {
		if err != nil {
			return got, last, fmt.Errorf("%w: %w", errBusy, err)
		}
		if last = event.LastEventID; testsse.IsPosition(event) {
			continue
		}
		got = append(got, strings.TrimSpace(event.Type+" "+event.Data))
		if n--; n < 0 || event.Data == end {
			return got, last, nil
		}
	}
	return got, last, fmt.Errorf("the stream ended")
}
