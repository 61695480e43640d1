package cluster

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gin-sse/internal/cluster"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/natsserver"
)

// three is a cluster of three NATS servers.
type three struct {
	nodes []*natsserver.Process
	url   string
}

func startThree(t testing.TB) *three {
	t.Helper()
	c := &three{nodes: natsserver.StartProcesses(t, 3, t.TempDir(), "")}
	var urls []string
	for _, n := range c.nodes {
		urls = append(urls, n.URL)
	}
	c.url = strings.Join(urls, ",")
	return c
}

// lead makes that node the stream's leader.
func (c *three) lead(t testing.TB, name string) {
	t.Helper()
	nc, js := direct(t, c.url)
	testwait.For(t, name+" as the leader", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		s, err := js.Stream(ctx, "sse")
		if err != nil {
			return false
		}
		if s.CachedInfo().Cluster.Leader == name {
			return true
		}
		_, _ = nc.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN.sse", []byte(`{"placement":{"preferred":"`+name+`"}}`))
		return false
	})
}

const publishers, each = 16, 128

// end is the event after all others.
const end = `data:"end"`

// load sends from 16 publishers through both replicas, with a key of its own for each message: half of
// them before during, 100 a second while that runs, and the rest afterwards. It returns how many each sent.
func load(t *testing.T, replicas []*replica, during func()) []int {
	t.Helper()
	sent := make([]int, publishers)
	var sending, begun sync.WaitGroup
	begun.Add(publishers)
	over := make(chan struct{})
	for p := range publishers {
		sending.Go(func() {
			send := func() {
				replicas[rand.IntN(len(replicas))].publish(t, fmt.Sprint(p, "-", sent[p]), []int{p, sent[p]})
				sent[p]++
			}
			for range each / 2 {
				send()
			}
			begun.Done()
			pace := time.NewTicker(10 * time.Millisecond) // as there are other tests
			defer pace.Stop()
			for {
				select {
				case <-over:
					for range each / 2 {
						send()
					}
					return
				case <-pace.C:
					send()
				}
			}
		})
	}
	begun.Wait()
	during()
	close(over)
	sending.Wait()
	replicas[0].publish(t, "", "end")
	return sent
}

// readTo reads to the end, or so many times, from wherever it was the last time.
func (r *replica) readTo(ctx context.Context, t testing.TB, c *client, reads int) (bool, error) {
	next := r.client(t, c.last)
	defer next.Close()
	for ; reads > 0; reads-- {
		err := next.read(ctx)
		c.got, next.got, c.last = append(c.got, next.got...), nil, next.last
		if err != nil {
			return false, err
		}
		if len(c.got) > 0 && c.got[len(c.got)-1] == end {
			return true, nil
		}
	}
	return false, nil
}

// survives sends and reads through two replicas while something happens. Some clients stay at theirs, and
// others move between them all the time; all must get all.
func survives(t *testing.T, url string, nodes int, during func()) []*replica {
	t.Helper()
	many := func(c *cluster.Config) { c.Replicas, c.History = nodes, 1_000_000 }
	replicas := []*replica{join(t, url, many).ready(t), join(t, url, many).ready(t)}
	start := replicas[0].client(t, "")
	if err := start.read(t.Context()); err != nil { // the position
		t.Fatal(err)
	}
	clients := make([]*client, 8)
	var reading sync.WaitGroup
	for i := range clients {
		c := &client{last: start.last}
		clients[i] = c
		reading.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*testwait.Limit)
			defer cancel()
			for all, err := false, error(nil); !all; {
				if i < len(replicas) {
					all, err = replicas[i].readTo(ctx, t, c, math.MaxInt)
				} else {
					all, err = replicas[rand.IntN(len(replicas))].readTo(ctx, t, c, 1+rand.IntN(20))
				}
				if err != nil {
					t.Errorf("after %d messages: %v", len(c.got), err)
					return
				}
			}
		})
	}
	sent := load(t, replicas, during)
	reading.Wait()

	next := make([]int, publishers)
	got := clients[0].got
	for _, event := range got[:max(0, len(got)-1)] {
		var p, n int
		if _, err := fmt.Sscanf(event, "data:[%d,%d]", &p, &n); err != nil || n != next[p] {
			t.Fatalf("%q, want number %d of publisher %d", event, next[p], p)
		}
		next[p]++
	}
	if !slices.Equal(next, sent) {
		t.Errorf("messages of the publishers: %d, want %d", next, sent)
	}
	for i, c := range clients {
		if !slices.Equal(c.got, got) {
			k := 0
			for k < min(len(got), len(c.got)) && got[k] == c.got[k] {
				k++
			}
			t.Errorf("client %d saw %q, client 0 %q after %d messages", i, c.got[k:min(k+3, len(c.got))], got[k:min(k+3, len(got))], k)
		}
	}
	t.Logf("%d messages", len(got))
	return replicas
}

func TestOneNodeRestartedFromDiskUnderLoadLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	survives(t, fmt.Sprint("nats://127.0.0.1:", n.Options.Port), 1, func() {
		n.Stop()
		n.Run(t)
	})
}

func TestNodeKilledUnderLoadLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	c := startThree(t)
	prepare := join(t, c.url, func(c *cluster.Config) { c.Replicas = 3 }).ready(t)
	prepare.stop()
	c.lead(t, "n2")
	replicas := survives(t, c.url, 3, func() {
		c.nodes[2].Kill()
		_, js := direct(t, c.url)
		testwait.For(t, "another leader", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			s, err := js.Stream(ctx, "sse")
			return err == nil && s.CachedInfo().Cluster.Leader != "" && s.CachedInfo().Cluster.Leader != "n2"
		})
	})

	// It comes back, and another one goes.
	c.nodes[2].Run()
	last := replicas[0].client(t, "")
	id := replicas[0].publish(t, "", "all there")
	last.until(t, 1)
	if last.last != id {
		t.Errorf("the id is %q, want %q", last.last, id)
	}
}

func TestLeaderMovedUnderLoadLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	c := startThree(t)
	prepare := join(t, c.url, func(c *cluster.Config) { c.Replicas = 3 }).ready(t)
	prepare.stop()
	survives(t, c.url, 3, func() {
		for _, name := range []string{"n0", "n2", "n1"} {
			c.lead(t, name)
		}
	})
}

func TestStreamThatIsMadeTwiceAtOnceIsOne(t *testing.T) {
	t.Parallel()
	c := startThree(t)
	var replicas []*replica
	for range 4 {
		replicas = append(replicas, join(t, c.url, func(c *cluster.Config) { c.Replicas = 3 }))
	}
	for _, r := range replicas {
		r.ready(t)
	}
	one := replicas[0].publish(t, "key", 1)
	for _, r := range replicas {
		if id := r.publish(t, "key", 1); id != one {
			t.Errorf("the id is %q, and %q elsewhere", one, id)
		}
	}
}
