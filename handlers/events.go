package handlers

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gin-sse/internal/cluster"
	"gin-sse/internal/event"
	"gin-sse/internal/history"
	"gin-sse/internal/hub"
	"gin-sse/internal/journal"
	"gin-sse/internal/memory"
	"gin-sse/internal/secret"
	"gin-sse/internal/stream"
	"gin-sse/internal/token"
)

const (
	maxAhead = 100_000          // messages that another replica may be ahead: its clients come with ids that are new here
	linger   = 30 * time.Second // that a replica keeps a topic which nobody follows: reloading a page then costs NATS nothing
)

// Options say where messages are kept, and how many. The zero value keeps the latest ones in memory.
type Options struct {
	DataDir       string        // a directory that keeps messages over a restart, made if it is missing
	NATSURL       string        // such as nats://localhost:4222, through which replicas share their messages; without DataDir
	NATSStream    string        // the name of the stream in NATS; "sse" if it is empty
	NATSReplicas  int           // on how many NATS servers each message is stored; 1 if it is 0
	NATSCreds     string        // the path of a file with credentials for NATS
	History       *int          // how many messages of each topic are kept; 1,000 if it is nil
	HistoryBytes  *int64        // how many bytes the kept messages of all topics may take; 64 MiB if it is nil
	MaxEventBytes int64         // how large an event may be; 65,000 if it is 0
	MaxClients    uint64        // how many streams may be open at the same time; any number if it is 0
	Keepalive     time.Duration // how often a silent stream gets a comment; 15 s if it is 0
	SubscribeKeys *SecretList   // sign the tokens for topics that are not public, at least 32 bytes each; without any, nobody can follow such topics
	PublicTopics  []string      // what anyone may follow, such as news/*, but never names below private/; all others if it is nil
}

// SecretList is tokens or keys that are accepted beside each other. The first one is the one to sign with.
type SecretList = secret.List

// Secrets returns a list of these secrets, which never changes.
func Secrets(values ...string) *SecretList { return secret.Of(values...) }

// SecretsFile returns the secrets in a file, one on each line, of at least 32 bytes each. Call the list's method Reload every
// few seconds: it reads the file again if it has changed. If the file can no longer be used, what was read before stays in
// force, and package slog is told.
func SecretsFile(path string) (*SecretList, error) {
	return secret.OpenList("SecretsFile", path, token.CheckKey)
}

// Events are what a server publishes and what its clients follow. [SSE] and [Publish] are the handlers of both. The
// methods may be called from any number of goroutines.
type Events struct {
	hub      *hub.Hub
	log      event.Log
	max      int64  // bytes of an event
	clients  uint64 // at the same time, or 0 for any number
	open     atomic.Uint64
	full     atomic.Int64 // when the log was last told that all places are taken, in seconds since 1970
	public   event.Public
	tokens   *token.Verifier
	streams  *stream.Group // those of a server that has no group of its own
	ready    func() error
	size     func() int64 // bytes on the disk; nil if nothing is kept there
	metrics  []prometheus.Collector
	about    []any
	closing  sync.Once
	closeLog func()
}

// Open opens the log that the options name: in memory, on disk or in NATS. Call Close when it is no longer needed. The error
// is one line that says what to do. NATS need not be there yet: see Ready.
func Open(o Options) (*Events, error) {
	if o.NATSURL != "" && o.DataDir != "" {
		return nil, errors.New("DataDir and NATSURL are both set: NATS keeps the messages then, so leave one of them out")
	}
	if o.NATSURL != "" && !cluster.ValidURL(o.NATSURL) { // which may have a password
		return nil, errors.New("NATSURL cannot be used: it takes addresses such as nats://localhost:4222, separated by commas")
	}
	for _, key := range o.SubscribeKeys.All() {
		if err := token.CheckKey(key.Value); err != nil {
			return nil, err
		}
	}
	public := event.Public(o.PublicTopics)
	if public == nil {
		public = event.Public{"*"}
	}
	if err := public.Check(); err != nil {
		return nil, err
	}
	options := hub.Options{Keepalive: o.Keepalive, Limits: history.Limits{
		PerTopic: *cmp.Or(o.History, new(1000)), Bytes: *cmp.Or(o.HistoryBytes, new(int64(64<<20))),
	}}
	for name, value := range map[string]int64{
		"MaxEventBytes": o.MaxEventBytes, "Keepalive": int64(o.Keepalive), "History": int64(options.PerTopic), "HistoryBytes": options.Bytes,
	} {
		if value < 0 {
			return nil, fmt.Errorf("%s=%d cannot be used: it must not be negative", name, value)
		}
	}
	if o.NATSURL != "" {
		options.Ahead = maxAhead
	}
	e := &Events{
		hub: hub.New(options), max: cmp.Or(o.MaxEventBytes, 65_000), clients: o.MaxClients,
		public: public, tokens: token.New(o.SubscribeKeys, public), streams: stream.NewGroup(),
		ready: func() error { return nil }, closeLog: func() {},
	}
	log := func(format string, args ...any) { slog.Warn(fmt.Sprintf(format, args...)) }
	switch {
	case o.NATSURL != "":
		e.replicate(cluster.Config{
			URL: o.NATSURL, Credentials: o.NATSCreds, Stream: cmp.Or(o.NATSStream, "sse"), Replicas: cmp.Or(o.NATSReplicas, 1),
			History: options.PerTopic, Linger: linger, Log: slog.Default(),
		})
	case o.DataDir != "":
		j, err := journal.Open(o.DataDir, e.max, e.hub, log)
		if err != nil {
			e.hub.Close()
			return nil, err
		}
		j.OfferCopies()
		e.log, e.ready, e.size, e.metrics, e.closeLog = j, j.Ready, j.Size, j.Collectors(), j.Close
		e.about = []any{"log", "disk", "messages", e.Stats().Kept, "bytes", j.Size()}
	default:
		e.log, e.about = memory.New(e.hub), []any{"log", "memory"}
	}
	return e, nil
}

// replicate follows the stream in NATS until the log is closed.
func (e *Events) replicate(cfg cluster.Config) {
	replica := cluster.New(cfg, e.hub)
	ctx, stop := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() { replica.Follow(ctx) })
	e.log, e.ready, e.about = replica, replica.Ready, []any{"log", "NATS", "stream", cfg.Stream}
	e.metrics = []prometheus.Collector{yesOrNo("gin_sse_nats_connected", "1 while there is a connection to NATS.", replica.Connected)}
	e.closeLog = func() {
		stop()
		following.Wait() // before the replica is closed
		replica.Close()
	}
}

// Publish sends data, which must have a form in JSON, to the followers of a topic, and returns its id once it is kept. The
// empty topic is the default one, that of clients which name none. If ctx ends first, it may be kept all the same.
func (e *Events) Publish(ctx context.Context, topic string, data any) (id string, err error) {
	if err := event.CheckTopic(topic); err != nil {
		return "", err
	}
	encoded, err := encode(data)
	if size := int64(len(bytes.TrimSpace(encoded))); err == nil && size > e.max {
		err = fmt.Errorf("the event has %d bytes, and up to %d are allowed", size, e.max)
	}
	if err != nil {
		return "", fmt.Errorf("publish to the topic %q: %w", topic, err)
	}
	_, id, err = e.log.Publish(ctx, event.Message{Topic: topic, Data: encoded})
	return id, err
}

// Tick sends data to the clients of the default topic. It has no id, and only the latest one is kept, for new clients.
func (e *Events) Tick(data any) error { return e.hub.Tick(data) }

// Ready returns nil while messages can be stored and followed, and otherwise what is wrong.
func (e *Events) Ready() error { return e.ready() }

// Stats returns figures, such as the number of Subscribers.
func (e *Events) Stats() hub.Stats { return e.hub.Stats() }

// About returns what the log had at the start, in pairs of name and value as package slog takes them.
func (e *Events) About() []any { return e.about }

// Bytes returns about how many bytes the kept messages take.
func (e *Events) Bytes() int64 { return e.hub.Bytes() }

// Stop ends every stream: its client gets what was published before, and the end of the answer. An upload of lines gets its
// answer. Give Stop to http.Server.RegisterOnShutdown, as Shutdown ends neither. The log stays open for requests that are
// under way.
func (e *Events) Stop() {
	e.hub.Close()
	e.streams.Stop()
}

// Close ends every stream, waits until each client has the end, two seconds at most, and closes the log. Call it after
// Shutdown, which does not wait for streams. It may be called again.
func (e *Events) Close() {
	e.closing.Do(func() {
		e.Stop()
		late, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = e.streams.Shutdown(late) // it has cut off the clients that are too slow
		e.closeLog()
	})
}
