// Package storage opens the log that the settings ask for: in memory, on a disk, or in NATS.
package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"gin-sse/internal/cluster"
	"gin-sse/internal/config"
	"gin-sse/internal/event"
	"gin-sse/internal/hub"
	"gin-sse/internal/journal"
	"gin-sse/internal/memory"
)

// Storage is a log, and what is to be known about it.
type Storage struct {
	Log     event.Log
	Ready   func() error           // nil while messages can be stored and read, otherwise what is wrong
	Size    func() int64           // bytes on the disk, or nil if nothing is kept there
	Metrics []prometheus.Collector // figures of the log's own
	About   []any                  // what the log has at the start, for a line, in pairs of name and value
	Close   func()                 // ends the log; call it once, after the last request
}

// Open opens the log for this hub, which must have no subscribers yet. The error is one line that says what to do.
func Open(cfg config.Config, events *hub.Hub) (Storage, error) {
	log := func(format string, args ...any) { slog.Warn(fmt.Sprintf(format, args...)) }
	switch {
	case cfg.NATSURL != "":
		return replicate(cfg, events, log), nil
	case cfg.DataDir != "":
		j, err := journal.Open(cfg.DataDir, events, log)
		if err != nil {
			return Storage{}, err
		}
		return Storage{Log: j, Ready: j.Ready, Size: j.Size, Metrics: j.Collectors(), Close: j.Close, About: []any{"log", "disk", "messages", events.Stats().Kept, "bytes", j.Size()}}, nil
	}
	return Storage{Log: memory.New(events), Ready: func() error { return nil }, Close: func() {}, About: []any{"log", "memory"}}, nil
}

// replicate follows the stream in NATS until Close.
func replicate(cfg config.Config, events *hub.Hub, log func(format string, args ...any)) Storage {
	replica := cluster.New(cfg.Cluster(log), events)
	ctx, stop := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() { replica.Follow(ctx) })
	return Storage{Log: &watched{Log: replica, log: log}, Ready: replica.Ready, About: []any{"log", "NATS", "stream", cfg.NATSStream}, Close: func() {
		stop()
		following.Wait() // before the replica is closed
		replica.Close()
	}}
}

// watched is a log that says when it begins to refuse messages, and when it takes them again.
type watched struct {
	event.Log
	log     func(format string, args ...any)
	refuses atomic.Bool
}

func (w *watched) Publish(ctx context.Context, messages ...event.Message) (stored int, id string, err error) {
	stored, id, err = w.Log.Publish(ctx, messages...)
	switch {
	case err == nil:
		if w.refuses.Load() && w.refuses.Swap(false) {
			w.log("NATS stores messages again")
		}
	case ctx.Err() != nil || errors.Is(err, event.ErrEnded) || errors.Is(err, event.ErrKeyReused) || errors.Is(err, event.ErrTooLarge) || errors.Is(err, event.ErrClosed):
	case !w.refuses.Swap(true):
		w.log("NATS does not store messages: %v; POST /sse answers 503 until it does", err)
	}
	return stored, id, err
}
