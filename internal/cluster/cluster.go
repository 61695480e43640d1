// Package cluster makes what one replica of the server publishes reach the subscribers of all, in one
// order and with the same ids, through a stream of NATS JetStream. Each replica follows the stream into
// its own hub.
//
// A message in the stream is JSON, on the stream's subject, with the event's name in the header Event:
// whatever publishes so reaches every subscriber. What is not JSON is sent as a string.
package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"gin-sse/internal/hub"
)

const (
	publishWait = 5 * time.Second        // for a message to be stored, however often that is tried
	answerWait  = 2 * time.Second        // for one answer from NATS
	retryWait   = 250 * time.Millisecond // before the next try
	stopWait    = time.Second            // for publishing to end when the replica stops
)

// nameHeader has the event's name.
const nameHeader = "Event"

// ErrAway is why a message could not be stored: NATS cannot be reached, or has no leader at the moment,
// or the replica is stopping. It may be stored all the same, if the answer was lost.
var ErrAway = errors.New("NATS did not store it in time")

// Config is how a replica reaches NATS, and what it makes there if it is missing.
type Config struct {
	URL         string // of one or more servers, separated by commas
	Credentials string // file, or empty
	Stream      string // name of the stream, and its subject
	Replicas    int    // nodes that store the stream
	History     int    // messages that the stream keeps, and that are loaded at the start

	Log func(format string, args ...any) // is told of what an operator should know, a line each
}

// Replica is one of the servers that share a stream. Its methods may be called from any number of
// goroutines.
type Replica struct {
	cfg     Config
	events  *hub.Hub
	started time.Time
	nc      *nats.Conn // both are set by Follow, before subject and problem change
	js      jetstream.JetStream

	// These belong to Follow.
	run    string    // of the stream that is followed
	next   uint64    // number of its next message
	behind time.Time // since when it has fewer messages than the hub

	mu       sync.Mutex
	subject  string          // to publish to; empty until the stream was loaded
	problem  string          // why the stream is not followed, or empty
	told     map[string]bool // problems that were logged since all was well
	lost     func()          // ends following when the connection is lost
	stopping context.Context // ends when the replica is to stop
	stop     context.CancelFunc
}

// ValidURL tells whether NATS servers can be reached so, separated by commas.
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

// New returns a replica that brings the stream's messages to events, once Follow is called. Close must be
// called when it is not needed any more.
func New(cfg Config, events *hub.Hub) *Replica {
	r := &Replica{cfg: cfg, events: events, started: time.Now(), told: map[string]bool{}, lost: func() {}, problem: "NATS was not reached yet"}
	r.stopping, r.stop = context.WithCancel(context.Background())
	return r
}

// connect begins to try to reach NATS, which goes on for as long as it takes. The error is about a
// setting that cannot be used.
func (r *Replica) connect(ctx context.Context) error {
	options := []nats.Option{
		nats.Name("gin-sse"),
		nats.Timeout(answerWait),
		nats.SetCustomDialer(dialer{ctx}),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(retryWait),
		nats.ReconnectJitter(retryWait, retryWait),
		nats.ReconnectBufSize(-1), // who publishes is told when it cannot be sent
		nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(5 * time.Second), // finds out about a machine that vanished
		nats.MaxPingsOutstanding(2),
		nats.ConnectHandler(r.connected),
		nats.ReconnectHandler(r.connected),
		nats.DisconnectErrHandler(r.disconnected),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			if !errors.Is(err, nats.ErrNoServers) { // why not comes with the next try
				r.tell("NATS cannot be reached: " + cause(err))
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { r.tell("NATS: " + cause(err)) }),
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

// Close ends the connection to NATS. Follow must have returned, if it was called.
func (r *Replica) Close() {
	r.stop()
	if r.nc != nil {
		r.nc.Close()
	}
}

// Ready returns nil when this replica has all that is in the stream, and otherwise why it may not.
func (r *Replica) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.problem != "":
		return errors.New(r.problem)
	case !r.nc.IsConnected():
		return errors.New("the connection to NATS is lost")
	}
	return nil
}

// Publish stores a message in the stream, under a name if that is not empty, and returns its id. If the
// key was used in the last two minutes (more precisely, in the stream's duplicate window), nothing is
// stored, and the id is that of then. The data is stored as JSON. It takes 5 s at most: then the error is
// ErrAway, or hub.ErrTooLarge at once.
func (r *Replica) Publish(ctx context.Context, once, name string, data any) (id string, err error) {
	payload, err := json.Marshal(data)
	if err != nil {
		return "", fmt.Errorf("encode message: %w", err)
	}
	if once == "" {
		once = nuid.Next() // a message that is sent again, as the answer was lost, must not be doubled
	}
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	defer context.AfterFunc(r.stopping, func() { time.AfterFunc(stopWait, cancel) })()

	for {
		r.mu.Lock()
		subject := r.subject
		r.mu.Unlock()
		ack, err := r.store(ctx, subject, once, name, payload)
		var refused *jetstream.APIError
		switch {
		case err == nil:
			return r.events.ID(ack.Sequence), nil
		case errors.Is(err, nats.ErrMaxPayload), errors.As(err, &refused) && refused.ErrorCode == tooLarge:
			return "", hub.ErrTooLarge
		}
		select {
		case <-ctx.Done():
			if subject != "" && r.nc.IsConnected() && errors.Is(ctx.Err(), context.DeadlineExceeded) { // the client waits
				r.tell("NATS did not store a message in time: " + cause(err))
			}
			return "", ErrAway
		case <-time.After(retryWait):
		}
	}
}

// tooLarge is JetStream's code for a message that is larger than the stream takes.
const tooLarge = 10054

// store tries once.
func (r *Replica) store(ctx context.Context, subject, once, name string, payload []byte) (*jetstream.PubAck, error) {
	if subject == "" {
		return nil, errors.New("the stream was not found yet")
	}
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	message := nats.NewMsg(subject)
	message.Data = payload
	if name != "" {
		message.Header.Set(nameHeader, name)
	}
	return r.js.PublishMsg(ctx, message, jetstream.WithMsgID(once), jetstream.WithExpectStream(r.cfg.Stream), jetstream.WithRetryAttempts(0))
}

func (r *Replica) connected(nc *nats.Conn) {
	r.mu.Lock()
	clear(r.told)
	r.mu.Unlock()
	r.cfg.Log("NATS: connected to %s", nc.ConnectedUrlRedacted())
}

func (r *Replica) disconnected(_ *nats.Conn, err error) {
	r.mu.Lock()
	r.problem = "the connection to NATS is lost"
	r.lost()
	r.mu.Unlock()
	r.tell("NATS: the connection is lost: " + cause(err))
}

// tell logs a problem, once until all is well again: what is tried again and again fails again and again.
func (r *Replica) tell(problem string) {
	r.mu.Lock()
	told := r.told[problem]
	r.told[problem] = true
	r.mu.Unlock()
	if !told && r.stopping.Err() == nil {
		r.cfg.Log("%s", problem)
	}
}

// cause is what went wrong, without what differs each time, such as ports.
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
