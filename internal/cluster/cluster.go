// Package cluster is the log of messages that several replicas of the server share: a stream of NATS
// JetStream. What one replica publishes reaches the subscribers of all, in one order and with the same
// ids. Each replica hands to its own hub the messages of the topics that its clients follow.
//
// A message in the stream is JSON, on the subject of its topic, with the event's name in the header
// Event, and the header End: true if it ends its topic. Whatever any program publishes in this form reaches
// every subscriber of the topic. Data that is not JSON is sent as a string.
//
// A pattern that a client follows is a feed. NATS sends on each message that it has stored to the replicas that have
// subscribed to its subject, so a replica never hears of the others. What the stream had before is loaded, up to an end;
// what comes after the end comes live. Three facts make that complete:
//
//   - NATS sends messages on in the order of their numbers, and everything that it sends to a replica comes in the order
//     in which it was sent. So when the answer to a question has come the same way, so has every message before it. The
//     question is a message that the leader must refuse: reading never needs anything to be stored. See sync.
//   - Each message names the one before it on its subject. If that one did not come, the feed is loaded again.
//   - A leader that is lost may have stored messages that it did not send on. So every feed is loaded again when the
//     stream has another leader, and when the connection was lost.
//
// While a feed is being loaded, the hub holds its subscribers, so that nothing overtakes what is missing. That is the only
// way in which anything is repaired.
//
// NATS can also lose what it had stored: a power cut, or an operator who puts an older copy back. Then it gives the same
// numbers to other messages, and ids mean the wrong ones. So everything that NATS says is compared with one picture of
// the stream, the truth: the highest number that this replica has ever given to anybody or learnt from NATS, and what
// proves which message has it. If they do not agree, a new epoch begins, on all replicas.
package cluster

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

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

	Log *slog.Logger // gets each line that an operator should know
}

// Replica is one of the servers that share a stream. Its methods may be called from any number of goroutines.
type Replica struct {
	cfg     Config
	events  *hub.Hub
	started time.Time
	stop    context.CancelFunc
	nc      *nats.Conn // both are set by Follow, before the first session
	js      jetstream.JetStream

	status
	truth    truth
	feeds    *feeds
	current  atomic.Pointer[session] // the latest one; nil before the first one
	refused  bool                    // NATS could not be reached at the start
	late     float64                 // when this replica renews the marker, compared with others: 0 to 1
	waits    time.Time               // since when it waits for the stream to be as it should
	refusals int                     // how often the stream could not be made to take batches and receipts

	doubts   chan struct{} // has a value when a message was not stored
	posts    chan *post    // to the session's committer
	batches  atomic.Bool   // the stream takes batches
	receipts atomic.Bool   // the stream takes messages that NATS drops after a while
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
		cfg: cfg, events: events, started: time.Now(), feeds: newFeeds(), late: rand.Float64(),
		doubts: make(chan struct{}, 1), posts: make(chan *post),
	}
	r.stopping, r.stop = context.WithCancel(context.Background())
	r.log = cfg.Log
	r.silence = time.AfterFunc(silentFor, func() {
		if r.Connected() { // otherwise there is a line already
			r.report(answering, "NATS does not answer")
		}
	})
	r.silence.Stop() // until the first answer
	r.setProblem(following, "NATS was not reached yet")
	events.OnDemand(r.feeds)
	return r
}

// connect starts to connect to NATS and returns at once. Attempts go on until one succeeds. The error is about
// a setting that cannot be used.
func (r *Replica) connect() (err error) {
	options := []nats.Option{
		nats.Name("gin-sse"),
		nats.Timeout(answerWait),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(retryWait),
		nats.ReconnectJitter(retryWait, retryWait),
		nats.FlusherTimeout(answerWait), // a link that takes nothing holds nobody up for longer
		nats.ReconnectBufSize(-1),       // publishing fails at once while there is no connection
		nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(3 * time.Second), // notices within 9 s a server that is frozen or has vanished
		nats.MaxPingsOutstanding(2),
		nats.SyncQueueLen(perRequest + 2), // of an answer to read, with the marker and the end
		nats.ConnectHandler(r.connected),
		nats.ReconnectHandler(r.connected),
		nats.DisconnectErrHandler(r.disconnected),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { r.unreachable(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			r.tell("NATS: " + cause(err))
			if errors.Is(err, nats.ErrSlowConsumer) || strings.Contains(err.Error(), "for Subscription to") { // messages did not come
				r.endSession(err)
			}
		}),
	}
	if r.cfg.Credentials != "" {
		options = append(options, nats.UserCredentials(r.cfg.Credentials))
	}
	if r.nc, err = nats.Connect(r.cfg.URL, options...); err != nil {
		return err
	}
	r.refused = !r.nc.IsConnected()
	r.js, err = jetstream.New(r.nc)
	return err
}

// Covers reports whether the hub has all that the stream keeps of a topic: a client follows it, or did so a moment ago.
func (r *Replica) Covers(topic string) bool { return r.feeds.covers(topic) }

// Close ends the connection to NATS. Follow must have returned, if it was called.
func (r *Replica) Close() {
	r.stop()
	r.silence.Stop()
	if r.nc != nil {
		r.nc.Close()
	}
}

// Ready returns nil when this replica has all messages that its clients wait for, as far as it knows, and NATS stores
// those that are published. Otherwise it returns what does not work.
func (r *Replica) Ready() error {
	switch problem := r.problem(); {
	case problem != "":
		return errors.New(problem)
	case !r.isFollowing(): // the session ends in a moment
		return errDisconnected
	}
	return nil
}

// Connected reports whether there is a connection to NATS.
func (r *Replica) Connected() bool { return r.current.Load() != nil && r.nc.IsConnected() }

// connections returns a number that is another one after each time that the connection to NATS was lost. It is so before
// the first message comes over the new connection. NATS may be another one by then, or have lost messages.
func (r *Replica) connections() uint64 { return r.nc.Stats().Reconnects }

// isFollowing reports whether the stream is the known one, so that its numbers may be given as ids.
func (r *Replica) isFollowing() bool {
	s := r.current.Load()
	return s != nil && s.placed.Load() && s.ctx.Err() == nil && r.nc.IsConnected() && s.connection == r.connections()
}

// endSession ends the session. From then on nothing is published, and no number is given as an id.
func (r *Replica) endSession(why error) {
	if s := r.current.Load(); s != nil {
		s.cancel(why)
	}
}

func (r *Replica) connected(nc *nats.Conn) {
	r.forget()
	r.info("NATS: connected to %s", nc.ConnectedUrlRedacted())
}

func (r *Replica) disconnected(_ *nats.Conn, err error) {
	r.setProblem(following, errDisconnected.Error())
	r.endSession(errDisconnected)
	r.tell("NATS: the connection is lost: " + cause(err))
}

// unreachable logs why NATS cannot be reached, if it is known.
func (r *Replica) unreachable(err error) {
	if err != nil && !errors.Is(err, nats.ErrNoServers) { // the next attempt says why
		r.tell("NATS cannot be reached: " + cause(err))
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
	text := strings.ReplaceAll(err.Error(), "nats: ", "")
	return strings.ReplaceAll(text, context.DeadlineExceeded.Error(), "no answer in time")
}
