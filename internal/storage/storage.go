// Package storage opens the log that the settings ask for: in memory, on a disk, or in NATS.
package storage

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

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
		j, err := journal.Open(cfg.DataDir, cfg.MaxEventBytes, events, log)
		if err != nil {
			return Storage{}, err
		}
		j.OfferCopies()
		return Storage{Log: j, Ready: j.Ready, Size: j.Size, Metrics: append(readiness(j.Ready), j.Collectors()...), Close: j.Close, About: []any{"log", "disk", "messages", events.Stats().Kept, "bytes", j.Size()}}, nil
	}
	ready := func() error { return nil }
	return Storage{Log: memory.New(events), Ready: ready, Metrics: readiness(ready), Close: func() {}, About: []any{"log", "memory"}}, nil
}

// replicate follows the stream in NATS until Close.
func replicate(cfg config.Config, events *hub.Hub, log func(format string, args ...any)) Storage {
	replica := cluster.New(cfg.Cluster(log), events)
	ctx, stop := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() { replica.Follow(ctx) })
	connected := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gin_sse_nats_connected",
		Help: "1 while there is a connection to NATS.",
	}, func() float64 { return number(replica.Connected()) })
	return Storage{Log: replica, Ready: replica.Ready, Metrics: append(readiness(replica.Ready), connected), About: []any{"log", "NATS", "stream", cfg.NATSStream}, Close: func() {
		stop()
		following.Wait() // before the replica is closed
		replica.Close()
	}}
}

// readiness returns figures about whether messages can be stored and read.
func readiness(ready func() error) []prometheus.Collector {
	var mu sync.Mutex
	was := time.Now() // when it was ready
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gin_sse_ready",
			Help: "1 while messages can be stored and read.",
		}, func() float64 { return number(ready() == nil) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gin_sse_behind_seconds",
			Help: "For how long messages could not be stored, or may not have come from NATS, as far as earlier requests for these figures know.",
		}, func() float64 {
			mu.Lock()
			defer mu.Unlock()
			if ready() == nil {
				was = time.Now()
				return 0
			}
			return time.Since(was).Seconds()
		}),
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
