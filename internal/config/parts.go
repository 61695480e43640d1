package config

import (
	"runtime/debug"
	"time"

	"gin-sse/internal/capacity"
	"gin-sse/internal/secret"
	"gin-sse/internal/server"
	"gin-sse/internal/token"
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
	return server.Config{Host: cfg.Host, Port: cfg.Port, CertFile: cfg.TLSCertFile, KeyFile: cfg.TLSKeyFile, HTTP2: cfg.HTTP2, Delay: cfg.ShutdownDelay}
}

// Secrets are what publishers and subscribers must have, from the environment or from files.
type Secrets struct {
	PublishTokens *secret.List // none if publishing is off
	SubscribeKeys *secret.List // none if private topics are closed
}

// Secrets returns the secrets. The error is about a file that cannot be used.
func (cfg Config) Secrets() (s Secrets, err error) {
	read := func(value, setting, path string, check func([]byte) error) *secret.List {
		list := secret.Of(value)
		if path != "" && err == nil {
			list, err = secret.OpenList(setting, path, check)
		}
		return list
	}
	s.PublishTokens = read(cfg.PublishToken, "PUBLISH_TOKEN_FILE", cfg.PublishTokenFile, checkPublishToken)
	s.SubscribeKeys = read(cfg.SubscribeKey, "SUBSCRIBE_KEY_FILE", cfg.SubscribeKeyFile, token.CheckKey)
	return s, err
}

// Reload reads the files again, see [secret.Files.Reload].
func (s Secrets) Reload(now time.Time) {
	s.PublishTokens.Reload(now)
	s.SubscribeKeys.Reload(now)
}

// About returns what the log says at the start, in pairs of name and value: the version, the limits, and more.
func (cfg Config) About(more []any) []any {
	return append([]any{
		"version", Version(), "max_clients", cfg.Clients(), "history", cfg.History, "history_bytes", cfg.HistoryBytes, "max_event_bytes", cfg.MaxEventBytes,
	}, more...)
}

// Version returns the version of the program.
func Version() string {
	if build, ok := debug.ReadBuildInfo(); ok && build.Main.Version != "" { // go run main.go has none
		return build.Main.Version
	}
	return "(devel)"
}
