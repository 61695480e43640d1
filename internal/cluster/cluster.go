// Package cluster is the log of messages that several replicas of the server share: a stream of NATS
// JetStream. What one replica publishes reaches the subscribers of all, in one order and with the same
// ids. Each replica follows the stream into its own hub.
//
// A message in the stream is JSON, on the subject of its topic, with the event's name in the header
// Event, and the header End: true if it ends its topic. Whatever any program publishes in this form reaches
// every subscriber of the topic. Data that is not JSON is sent as a string.
package cluster

import (
	"bytes"
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
	publishWait = 5 * time.Second        // for a message to be stored, over all attempts
	answerWait  = 2 * time.Second        // for one answer from NATS
	retryWait   = 250 * time.Millisecond // before the next attempt
	stopWait    = time.Second            // for publishing to end when the replica stops
)

// Headers of a message.
const (
	nameHeader = "Event" // the event's name
	endHeader  = "End"   // "true": the message ends its topic
)

// ErrAway is why a message could not be stored: NATS cannot be reached, or has no leader at the moment, or the
// replica is stopping. If only the answer was lost, the message is stored all the same.
var ErrAway = errors.New("NATS did not store it in time")

// Config says how a replica reaches NATS, and how to make the stream if it is missing.
type Config struct {
	URL         string // addresses of one or more servers, separated by commas
	Credentials string // file, or empty
	Stream      string // name of the stream; its subjects are this name and all below it
	Replicas    int    // how many NATS servers store the stream
	History     int    // how many messages the stream keeps for each topic

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

	// These belong to Follow.
	created time.Time             // when the stream that is followed was made
	epoch   marker                // the epoch of that stream
	at      uint64                // the number of the last message that came
	stamp   time.Time             // when that message was stored, if it is known
	looked  jetstream.StreamState // what the last look found in the stream
	oldest  string                // the subject of the stream's first message then, or empty
	behind  time.Time             // since when the stream ends before the last message that came
	ahead   []uint64              // the numbers of the messages to come, if some are missing between them

	mu       sync.Mutex
	problem  string          // why the stream is not followed, or empty
	told     map[string]bool // problems that were logged since all was well
	lost     func()          // ends following when the connection is lost
	stopping context.Context // ends when the replica is to stop
	stop     context.CancelFunc
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
	r := &Replica{cfg: cfg, events: events, started: time.Now(), told: map[string]bool{}, lost: func() {}, problem: "NATS was not reached yet"}
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

// Publish stores messages in the stream, in this order. It returns how many it stored, and the id of the last one. A
// message that has the End mark and no data ends its topic without an event.
//
// A key that was used in the last two minutes (more precisely, in the stream's duplicate window) stores nothing
// and stands for the original id. If it was used for another message, the error is hub.ErrKeyReused. An empty key
// means no key. The error is hub.ErrEnded if this replica knows that the topic has ended, hub.ErrTooLarge if
// NATS does not accept a message of this size, and ErrAway after 5 s without success.
func (r *Replica) Publish(ctx context.Context, messages ...hub.Message) (kept int, id string, err error) {
	for i, m := range messages {
		next, err := r.publish(ctx, m)
		if err != nil {
			return i, id, err
		}
		id = next
	}
	return len(messages), id, nil
}

func (r *Replica) publish(ctx context.Context, m hub.Message) (id string, err error) {
	key := m.Key
	message, err := encode(r.cfg.Stream, m)
	if err != nil {
		return "", err
	}
	once := key
	if once == "" {
		once = nuid.Next() // an attempt after a lost answer must not store the message twice
	}
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	defer context.AfterFunc(r.stopping, func() { time.AfterFunc(stopWait, cancel) })()

	for tried, ended := false, false; ; {
		following := r.following()
		if err = errNotFollowed; following {
			if !tried { // later, this very message may have ended the topic
				ended = r.events.Ended(m.Topic)
			}
			if ended && key == "" {
				return "", hub.ErrEnded
			}
			tried = true
			id, err = r.store(ctx, once, message, ended)
		}
		var refused *jetstream.APIError
		switch {
		case err == nil, errors.Is(err, hub.ErrEnded) && key != "", errors.Is(err, hub.ErrKeyReused):
			return id, err
		case errors.Is(err, nats.ErrMaxPayload), errors.As(err, &refused) && refused.ErrorCode == tooLarge:
			return "", hub.ErrTooLarge
		}
		select {
		case <-ctx.Done():
			if following && r.nc.IsConnected() && errors.Is(ctx.Err(), context.DeadlineExceeded) { // otherwise the publisher has left
				r.tell("NATS did not store a message in time: " + cause(err))
			}
			return "", ErrAway
		case <-time.After(retryWait):
		}
	}
}

// errNotFollowed is why nothing is published while the stream is not followed: the stream may have lost
// messages, and then this replica would return ids of an epoch that is over.
var errNotFollowed = errors.New("the stream is not followed")

// tooLarge is JetStream's code for a message that is larger than the stream accepts.
const tooLarge = 10054

// encode returns the message as NATS stores it.
func encode(stream string, m hub.Message) (*nats.Msg, error) {
	message := nats.NewMsg(subjectOf(stream, m.Topic))
	if m.Name != "" {
		message.Header.Set(nameHeader, m.Name)
	}
	if m.End {
		message.Header.Set(endHeader, "true")
	}
	if m.End && len(m.Data) == 0 {
		return message, nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, m.Data); err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	message.Data = compact.Bytes()
	return message, nil
}

// store makes one attempt. For a topic that has ended, it stores the key alone, on a subject that belongs to no
// topic: NATS then tells whether the key was used before, and no subscriber gets a message.
func (r *Replica) store(ctx context.Context, once string, message *nats.Msg, ended bool) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	send := message
	if ended {
		send = nats.NewMsg(r.cfg.Stream + "." + endedToken)
	}
	ack, err := r.js.PublishMsg(ctx, send, jetstream.WithMsgID(once), jetstream.WithExpectStream(r.cfg.Stream), jetstream.WithRetryAttempts(0))
	switch {
	case err != nil:
		return "", err
	case ack.Duplicate:
		err = r.compare(ctx, ack.Sequence, message)
	case ended:
		err = hub.ErrEnded
	}
	if err != nil {
		return "", err
	}
	return r.events.ID(ack.Sequence), nil
}

// compare returns hub.ErrKeyReused if the message with that number is a different one. If it is no longer in the
// stream, it counts as the same.
func (r *Replica) compare(ctx context.Context, number uint64, message *nats.Msg) error {
	was, err := r.get(ctx, request{Seq: number})
	switch {
	case errors.Is(err, errGone):
		return nil
	case err != nil:
		return err
	case was.Subject == r.cfg.Stream+"."+endedToken:
		return hub.ErrEnded
	case was.Subject != message.Subject || !bytes.Equal(was.Data, message.Data) ||
		was.header(nameHeader) != message.Header.Get(nameHeader) || was.header(endHeader) != message.Header.Get(endHeader):
		return hub.ErrKeyReused
	}
	return nil
}

// following reports whether the replica has all that is in the stream, as far as it knows.
func (r *Replica) following() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.problem == ""
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
