package config

import (
	"gin-sse/internal/capacity"
	"gin-sse/internal/server"
)

// Clients returns how many streams may be open at the same time, or 0 for any number.
func (cfg Config) Clients() uint64 {
	if cfg.MaxClients != nil {
		return *cfg.MaxClients
	}
	return capacity.Clients(capacity.Files(), capacity.Memory(), cfg.HistoryBytes, cfg.perClient())
}

// perClient returns how many bytes a client may take. docs/figures.md has what a waiting one takes; as much again is for
// what it does besides, and for the kernel.
func (cfg Config) perClient() int64 {
	switch {
	case cfg.TLSCertFile == "":
		return 24 << 10 // behind a proxy, and over HTTP/2 in clear text without a reserve
	case cfg.HTTP2:
		return 192 << 10
	}
	return 48 << 10
}

// Viewers returns how many streams of the status page may be open at the same time. They are counted apart, so that the
// page can be seen when all places for clients are taken.
func (cfg Config) Viewers() uint64 {
	const most = capacity.ReservedFiles / 2
	if clients := cfg.Clients(); clients > 0 {
		return min(clients, most)
	}
	return most
}

// Server returns the settings of package server.
func (cfg Config) Server() server.Config {
	return server.Config{Host: cfg.Host, Port: cfg.Port, CertFile: cfg.TLSCertFile, KeyFile: cfg.TLSKeyFile, HTTP2: cfg.HTTP2}
}
