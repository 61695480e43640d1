package config

import (
	"time"

	"gin-sse/internal/cluster"
	"gin-sse/internal/hub"
	"gin-sse/internal/server"
)

// maxAhead is how many messages another replica may be ahead of this one. A client that comes from it has an id
// that this replica does not know yet.
const maxAhead = 100_000

// linger is how long a replica keeps a topic that no client follows any longer. A page that is reloaded, or a client
// that reconnects, then costs NATS nothing.
const linger = 30 * time.Second

// Server returns the settings of package server.
func (cfg Config) Server() server.Config {
	return server.Config{Host: cfg.Host, Port: cfg.Port, CertFile: cfg.TLSCertFile, KeyFile: cfg.TLSKeyFile, HTTP2: cfg.HTTP2}
}

// Hub returns the settings of package hub.
func (cfg Config) Hub() hub.Limits {
	limits := hub.Limits{History: cfg.History, HistoryBytes: cfg.HistoryBytes, Keepalive: cfg.Keepalive}
	if cfg.NATSURL != "" {
		limits.Ahead = maxAhead
	}
	return limits
}

// Cluster returns the settings of package cluster, which passes to log what an operator should know.
func (cfg Config) Cluster(log func(format string, args ...any)) cluster.Config {
	return cluster.Config{
		URL: cfg.NATSURL, Credentials: cfg.NATSCreds, Stream: cfg.NATSStream,
		Replicas: cfg.NATSReplicas, History: cfg.History, Linger: linger, Log: log,
	}
}
