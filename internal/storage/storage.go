// Package storage opens the log that the settings ask for: in memory, on a disk, or in NATS.
package storage

import (
	"context"
	"sync"

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
	Close   func()                 // ends the log; call it once, after the last request
}

// Open opens the log for this hub, which must have no subscribers yet. It passes to log what an operator should know
// later. The error is one line that says what to do.
func Open(cfg config.Config, events *hub.Hub, log func(format string, args ...any)) (Storage, error) {
	switch {
	case cfg.NATSURL != "":
		return replicate(cfg, events, log), nil
	case cfg.DataDir != "":
		j, err := journal.Open(cfg.DataDir, cfg.MaxEventBytes, events, log)
		if err != nil {
			return Storage{}, err
		}
		j.OfferCopies()
		return Storage{Log: j, Ready: j.Ready, Size: j.Size, Metrics: j.Collectors(), Close: j.Close}, nil
	}
	return Storage{Log: memory.New(events), Ready: func() error { return nil }, Close: func() {}}, nil
}

// replicate follows the stream in NATS until Close.
func replicate(cfg config.Config, events *hub.Hub, log func(format string, args ...any)) Storage {
	replica := cluster.New(cfg.Cluster(log), events)
	ctx, stop := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() { replica.Follow(ctx) })
	return Storage{Log: replica, Ready: replica.Ready, Close: func() {
		stop()
		following.Wait() // before the replica is closed
		replica.Close()
	}}
}
