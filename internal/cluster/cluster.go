// Package cluster is the log of messages that several replicas of the server share: a stream of NATS
// JetStream. What one replica publishes reaches the subscribers of all, in one order and with the same
// ids. Each replica hands to its own hub the messages of the topics that its clients follow.
//
// A message in the stream is JSON, on the subject of its topic, with the event's name in the header
// Event, and the header End: true if it ends its topic. Whatever any program publishes in this form reaches
// every subscriber of the topic. Data that is not JSON is sent as a string.
package cluster

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"gin-sse/internal/event"
	"gin-sse/internal/hub"
)

const (
	answerWait = 2 * time.Second        // for one answer from NATS
	retryWait  = 250 * time.Millisecond // before the next attempt
)

// Headers of a message.
const (
	nameHeader = "Event" // the event's name
	endHeader  = "End"   // "true": the message ends its topic
)

// Config says how a replica reaches NATS, and how to make the stream if it is missing.
type Config struct {
	URL         string // addresses of one or more servers, separated by commas
	Credentials string // file, or empty
	Stream      string // name of the stream; its subjects are this name and all below it
	Replicas    int    // how many NATS servers store the stream
	History     int    // how many messages the stream keeps for each topic

	Linger time.Duration // how long a topic is kept that no client follows any longer; more than 0

	Log func(format string, args ...any) // gets each line that an operator should know
}

// Replica is one of the servers that share a stream. Its methods may be called from any number of
// goroutines.
type Replica struct {
	cfg     Config
	events  *hub.Hub
	started time.Time
	nc      *nats.Conn // both are set by Follow, before problem changes
	js      jetstream.JetStream

	id       string    // names this replica's fences
	demand   *demand   // what the hub needs
	created  time.Time // when the stream that is followed was made
	behind   time.Time // since when the stream ends before the last message that came
	refusals int       // how often the stream could not be made to take batches
	own      []*nats.Subscription

	following sync.Mutex
	follows   map[event.Pattern]*follow
	epoch     marker    // the epoch of the stream
	at        uint64    // the number of the newest message that came
	handed    uint64    // the hub has messages up to this number
	stamp     time.Time // when that message was stored, if it is known

	mu       sync.Mutex
	problem  string                  // why the stream is not followed, or empty
	told     map[string]bool         // problems that were logged since all was well
	lost     context.CancelCauseFunc // ends the session
	followed uint64                  // the session's connection
	batches  bool                    // the stream takes batches
	receipts bool                    // the stream takes messages that NATS drops after a while
	unstored string                  // why NATS does not store messages, or empty
	stopping context.Context         // ends when the replica is to stop
	stop     context.CancelFunc

	tails tails
}

// ValidURL reports whether servers are addresses of NATS servers, separated by commas.
func ValidURL(servers string) bool {
	for server := range strings.SplitSeq(servers, ",") {
		server = strings.TrimSpace(server)
		if !strings.Contains(server, "://") {
			server = "nats://" + server
		}
		u, err := url.Parse(server)
		if err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return false
		}
	}
	return true
}

// New returns a replica that hands the stream's messages to events, once Follow is called. Call Close when the
// replica is no longer needed.
func New(cfg Config, events *hub.Hub) *Replica {
	r := &Replica{
		cfg: cfg, events: events, started: time.Now(), id: nuid.Next(), demand: newDemand(), follows: map[event.Pattern]*follow{},
		told: map[string]bool{}, tails: tails{topics: map[string]*tail{}}, lost: func(error) {}, problem: "NATS was not reached yet",
	}
	events.OnDemand(r.demand)
	r.stopping, r.stop = context.WithCancel(context.Background())
	return r
}

// connect starts to connect to NATS and returns at once. Attempts go on until one succeeds. The error is about
// a setting that cannot be used.
func (r *Replica) connect(ctx context.Context) error {
	options := []nats.Option{
		nats.Name("gin-sse"),
		nats.Timeout(answerWait),
		nats.SetCustomDialer(dialer{ctx}),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(retryWait),
		nats.ReconnectJitter(retryWait, retryWait),
		nats.ReconnectBufSize(-1), // publishing fails at once while there is no connection
		nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(5 * time.Second), // notices a machine that has vanished
		nats.MaxPingsOutstanding(2),
		nats.ConnectHandler(r.connected),
		nats.ReconnectHandler(r.connected),
		nats.DisconnectErrHandler(r.disconnected),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			if !errors.Is(err, nats.ErrNoServers) { // the next attempt says why
				r.tell("NATS cannot be reached: " + cause(err))
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, live *nats.Subscription, err error) {
			r.tell("NATS: " + cause(err))
			if live != nil || strings.Contains(err.Error(), "for Subscription to") { // messages did not come
				r.interrupt(err)
			}
		}),
	}
	if r.cfg.Credentials != "" {
		options = append(options, nats.UserCredentials(r.cfg.Credentials))
	}
	nc, err := nats.Connect(r.cfg.URL, options...)
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nc, r.js = nc, js
	return nil
}

// dialer stops trying when ctx ends.
type dialer struct{ ctx context.Context }

func (d dialer) Dial(network, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: answerWait}).DialContext(d.ctx, network, address)
}

// Covers reports whether the hub has all that the stream keeps of a topic: a client follows it, or did so a moment ago.
func (r *Replica) Covers(topic string) bool { return r.demand.covers(topic) }

// Close ends the connection to NATS. Follow must have returned, if it was called.
func (r *Replica) Close() {
	r.stop()
	if r.nc != nil {
		r.nc.Close()
	}
}

// Ready returns nil when this replica has all messages that its clients wait for, as far as it knows, and otherwise why
// it may not.
func (r *Replica) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.problem != "":
		return errors.New(r.problem)
	case !r.nc.IsConnected(), r.connections() != r.followed: // the session ends in a moment
		return errors.New("the connection to NATS is lost")
	}
	return nil
}

// connections returns a number that is another one after each time that the connection to NATS was lost. It is so before
// the first message comes over the new connection. NATS may be another one by then, or have lost messages.
func (r *Replica) connections() uint64 { return r.nc.Stats().Reconnects }

// interrupt ends the session.
func (r *Replica) interrupt(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost(why)
}

// isFollowing reports whether the replica has all messages that its clients wait for, as far as it knows.
func (r *Replica) isFollowing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.problem == ""
}

func (r *Replica) connected(nc *nats.Conn) {
	r.mu.Lock()
	clear(r.told)
	r.mu.Unlock()
	r.tails.forget() // it may be another NATS
	r.cfg.Log("NATS: connected to %s", nc.ConnectedUrlRedacted())
}

func (r *Replica) disconnected(_ *nats.Conn, err error) {
	r.mu.Lock()
	r.problem = "the connection to NATS is lost"
	r.mu.Unlock()
	r.interrupt(context.Canceled)
	r.tell("NATS: the connection is lost: " + cause(err))
}

// tell logs a problem. It logs the same problem only once until all is well again, because each retry fails in the
// same way.
func (r *Replica) tell(problem string) {
	r.mu.Lock()
	told := r.told[problem]
	r.told[problem] = true
	r.mu.Unlock()
	if !told && r.stopping.Err() == nil {
		r.cfg.Log("%s", problem)
	}
}

// cause returns what went wrong, without details that differ each time, such as ports.
func cause(err error) string {
	var operation *net.OpError
	switch {
	case err == nil:
		return "closed by the server"
	case errors.As(err, &operation):
		return operation.Err.Error()
	}
	return strings.TrimPrefix(err.Error(), "nats: ")
}
