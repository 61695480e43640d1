// Command gin-sse is the Express tutorial on server-sent events, on Gin.
//
// "gin-sse" serves; "gin-sse healthcheck" asks the server on PORT whether it is well. Both are
// configured by environment variables alone: see config.
package main

import (
	"context"
	"crypto/tls"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	_ "time/tzdata" // TZ works on machines and in containers without zone files

	"github.com/caarlos0/env/v11"
	"github.com/gin-contrib/cors"
	"github.com/gin-contrib/secure"
	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
	"gin-sse/internal/clock"
	"gin-sse/internal/cluster"
	"gin-sse/internal/hub"
	"gin-sse/internal/listener"
	"gin-sse/internal/scavenger"
)

//go:embed all:public all:templates
var assets embed.FS

// config is all that can be set, each by the environment variable that env names. What else
// readConfig asks of a value, takes says.
type config struct {
	Host           string        `env:"HOST"`
	Port           uint16        `env:"PORT" envDefault:"3000" takes:"a port number, 0 to 65535"`
	TickInterval   time.Duration `env:"TICK_INTERVAL" envDefault:"1s" takes:"0 for no ticks, or a duration of at least 10ms such as 1s"`
	PublishToken   string        `env:"PUBLISH_TOKEN"`
	MaxEventBytes  int64         `env:"MAX_EVENT_BYTES" envDefault:"65536" takes:"a number of bytes, 1 or more"`
	History        int           `env:"HISTORY" envDefault:"1000" takes:"a number of messages, 0 or more"`
	NATSURL        string        `env:"NATS_URL"`
	NATSStream     string        `env:"NATS_STREAM" envDefault:"sse" takes:"a name of letters, digits, hyphens and underscores"`
	NATSReplicas   int           `env:"NATS_REPLICAS" envDefault:"1" takes:"on how many NATS servers each message is stored, 1 to 5"`
	NATSCreds      string        `env:"NATS_CREDS" takes:"the path of a credentials file that can be read"`
	TLSCertFile    string        `env:"TLS_CERT_FILE" takes:"the certificate's PEM file, as TLS_KEY_FILE is set"`
	TLSKeyFile     string        `env:"TLS_KEY_FILE" takes:"the private key's PEM file, as TLS_CERT_FILE is set"`
	MaxClients     uint64        `env:"MAX_CLIENTS" takes:"how many streams may be open at the same time, 0 for any number"`
	Metrics        bool          `env:"METRICS" takes:"true for the page /metrics, or false"`
	AllowedOrigins list          `env:"ALLOWED_ORIGINS" takes:"origins such as https://example.com or http://localhost:5173, without a path, separated by commas; or * alone for all"`
	TrustedProxies list          `env:"TRUSTED_PROXIES" takes:"addresses or networks such as 10.0.0.0/8, separated by commas"`
}

// list is values separated by commas, with or without spaces.
type list []string

func (l *list) UnmarshalText(text []byte) error {
	for value := range strings.SplitSeq(string(text), ",") {
		if value = strings.TrimSpace(value); value != "" {
			*l = append(*l, value)
		}
	}
	return nil
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gin-sse:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	cfg, err := readConfig()
	if err != nil {
		return err
	}
	switch strings.Join(args, " ") {
	case "":
		return serve(cfg)
	case "healthcheck":
		return healthcheck(cfg, "/healthz")
	case "healthcheck ready":
		return healthcheck(cfg, "/readyz")
	default:
		return fmt.Errorf("unknown arguments %q: give none to start the server, or healthcheck to ask whether it is well, or healthcheck ready to ask whether clients should come here", args)
	}
}

// routes is the tutorial's server.js: what is asked for on the left, who answers on the right.
func routes(cfg config, events *hub.Hub, publisher handlers.Publisher, ready func() error, status *handlers.Status) (http.Handler, error) {
	gin.DebugPrintFunc = func(string, ...any) {} // a clean start has nothing to warn about
	app := gin.New()
	app.HandleMethodNotAllowed = true
	app.HTMLRender = handlers.Pages{Templates: folder("templates", "error.html")}
	if err := app.SetTrustedProxies(cfg.TrustedProxies); err != nil {
		return nil, unusable("TrustedProxies")
	}

	app.Use(gin.LoggerWithConfig(gin.LoggerConfig{SkipPaths: []string{"/healthz", "/readyz", "/metrics"}}))
	app.Use(gin.CustomRecovery(handlers.InternalError))
	app.Use(secure.New(secure.Config{
		ContentSecurityPolicy: "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
		ContentTypeNosniff:    true,
		FrameDeny:             true,
		ReferrerPolicy:        "same-origin",
	}))
	if len(cfg.AllowedOrigins) > 0 {
		app.Use(cors.New(cors.Config{
			AllowOrigins: cfg.AllowedOrigins,
			AllowMethods: []string{http.MethodGet},
			AllowHeaders: []string{"Cache-Control", "Last-Event-ID"}, // what clients built on fetch send
			MaxAge:       time.Hour,
		}))
	}
	app.Use(handlers.Static(folder("public", "index.html")))

	get := []string{http.MethodGet, http.MethodHead}
	app.Match(get, "/sse", handlers.Limit(cfg.MaxClients), handlers.SSE(events))
	app.POST("/sse", handlers.Authorize(cfg.PublishToken), handlers.Publish(publisher, cfg.MaxEventBytes))
	app.Match(get, "/status", status.Page)
	app.Match(get, "/status/sse", handlers.Limit(100), status.Refresh, handlers.SSE(status.Viewers))
	app.Match(get, "/healthz", handlers.Health(ready))
	app.Match(get, "/readyz", handlers.Ready(ready))
	if cfg.Metrics {
		app.Match(get, "/metrics", handlers.Metrics(events))
	}

	app.NoRoute(handlers.NotFound)
	app.NoMethod(handlers.MethodNotAllowed)
	return app, nil
}

// serve runs the server until SIGINT or SIGTERM, and then ends every stream properly.
func serve(cfg config) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	var running sync.WaitGroup
	events := hub.New(cfg.History)
	publisher, ready := handlers.Publisher(events), func() error { return nil }
	if cfg.NATSURL != "" {
		events = hub.NewReplica(cfg.History)
		replica := cluster.New(cluster.Config{
			URL: cfg.NATSURL, Credentials: cfg.NATSCreds, Stream: cfg.NATSStream,
			Replicas: cfg.NATSReplicas, History: cfg.History, Log: log.Printf,
		}, events)
		defer replica.Close()
		running.Go(func() { replica.Follow(ctx) })
		defer running.Wait()
		defer stop()
		publisher, ready = replica, replica.Ready
	}
	status := handlers.NewStatus(events)
	app, err := routes(cfg, events, publisher, ready, status)
	if err != nil {
		return err
	}
	port, err := listen(ctx, cfg)
	if err != nil {
		return err
	}
	var requests atomic.Int64 // running: net/http does not count those that took their connection over
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			defer requests.Add(-1)
			app.ServeHTTP(w, r)
		}),
		ReadTimeout:    10 * time.Second, // for a request to be all there
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 12 << 10, // net/http adds 4 KiB
		Protocols:      new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			// Many browsers share the connection of a proxy, and a stream does not end: who waits for
			// room on a full connection, as some do instead of opening another, would wait for good.
			MaxConcurrentStreams: 1000,
			// A stream's own deadline cannot end it while the whole connection takes nothing. The write
			// that fills the last buffer is given the time twice.
			WriteByteTimeout: 5 * time.Second,
			// Who sends nothing is asked for a sign of life, also in the middle of a request.
			SendPingTimeout: 15 * time.Second,
			PingTimeout:     15 * time.Second,
		},
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)            // over TLS
	server.Protocols.SetUnencryptedHTTP2(true) // h2c, for proxies that are told to speak it
	server.RegisterOnShutdown(events.Close)
	server.RegisterOnShutdown(status.Viewers.Close)

	running.Go(func() { clock.Run(ctx, cfg.TickInterval, handlers.SimulateData(events)) })
	var memory scavenger.Scavenger
	running.Go(func() {
		clock.Run(ctx, time.Second/2, func(now time.Time) {
			status.Tick(now)
			if now.Nanosecond() != 0 { // on the second events are on their way
				memory.Tick()
			}
		})
	})
	running.Go(func() {
		<-ctx.Done()
		stop() // a second signal ends the process at once
		shutdown(server, &requests)
	})

	fmt.Printf("Server running on %s\n", address(cfg, port.Addr().(*net.TCPAddr).Port))
	err = server.Serve(port)
	stop()
	running.Wait()
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// shutdown lets every request end, and cuts off those that take too long for a polite stop.
func shutdown(server *http.Server, requests *atomic.Int64) {
	ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
	defer cancel()
	err := server.Shutdown(ctx)
	for again := time.NewTicker(5 * time.Millisecond); err == nil && requests.Load() > 0; {
		select {
		case <-again.C:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		log.Printf("not all clients could be let go in time, cutting off the rest: %v", err)
		_ = server.Close() // the process ends anyway
	}
}

// listen opens the port, with TLS where there is a certificate for it.
func listen(ctx context.Context, cfg config) (net.Listener, error) {
	encryption := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if cfg.TLSCertFile != "" {
		certificate, err := tls.LoadX509KeyPair(cfg.TLSCertFile, cfg.TLSKeyFile)
		if err != nil {
			return nil, fmt.Errorf("TLS_CERT_FILE=%q with TLS_KEY_FILE=%q cannot be used: they take the PEM files of a certificate and of its private key: %w", cfg.TLSCertFile, cfg.TLSKeyFile, err)
		}
		encryption.Certificates = []tls.Certificate{certificate}
	}

	port, err := listener.Listen(ctx, net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port))))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("port %d is taken by another program: stop that one, or choose another port, such as PORT=%d", cfg.Port, cfg.Port+1)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("PORT=%d is reserved for the system: choose one above 1023, such as PORT=3000", cfg.Port)
	case err != nil:
		return nil, fmt.Errorf("cannot listen on HOST=%q: it takes an address or a name of this machine, or nothing for all: %w", cfg.Host, err)
	case cfg.TLSCertFile != "":
		return tls.NewListener(port, encryption), nil
	}
	return port, nil
}

// healthcheck is for a container without curl: it fails unless the server on PORT is well.
func healthcheck(cfg config, path string) error {
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{ // without the proxy of the environment
		// This machine asks itself, by another name than the certificate's.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	response, err := client.Get(address(cfg, int(cfg.Port)) + path)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("health check: the server answers %s", response.Status)
	}
	return nil
}

// address is where this machine reaches the server.
func address(cfg config, port int) string {
	host := cfg.Host
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	scheme := "http"
	if cfg.TLSCertFile != "" {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(port))
}

// folder is one of the asset folders: the embedded one, so that the binary runs from anywhere, or in
// Gin's debug mode the one on disk where there is one, so that an edit shows on the next refresh.
func folder(name, with string) fs.FS {
	disk := os.DirFS(name)
	if _, err := fs.Stat(disk, with); err == nil && gin.IsDebugging() {
		return disk
	}
	embedded, err := fs.Sub(assets, name)
	if err != nil {
		panic(err) // only for a name that is no path
	}
	return embedded
}

// readConfig reads the environment. An error names the variable, its value and what it takes.
func readConfig() (config, error) {
	cfg, err := env.ParseAs[config]()
	var unreadable env.ParseError
	switch {
	case errors.As(err, &unreadable):
		return cfg, unusable(unreadable.Name)
	case err != nil:
		return cfg, fmt.Errorf("read the environment: %w", err)
	case !areOrigins(cfg.AllowedOrigins):
		return cfg, unusable("AllowedOrigins")
	case cfg.TLSCertFile == "" && cfg.TLSKeyFile != "":
		return cfg, unusable("TLSCertFile")
	case cfg.TLSKeyFile == "" && cfg.TLSCertFile != "":
		return cfg, unusable("TLSKeyFile")
	case cfg.MaxEventBytes < 1:
		return cfg, unusable("MaxEventBytes")
	case cfg.History < 0:
		return cfg, unusable("History")
	case cfg.NATSURL != "" && !cluster.ValidURL(cfg.NATSURL): // it may have a password
		return cfg, errors.New("NATS_URL cannot be used: it takes addresses such as nats://localhost:4222 or tls://user:password@nats.example.com, separated by commas")
	case !isStreamName(cfg.NATSStream):
		return cfg, unusable("NATSStream")
	case cfg.NATSReplicas < 1 || cfg.NATSReplicas > 5:
		return cfg, unusable("NATSReplicas")
	case cfg.NATSCreds != "" && !isReadable(cfg.NATSCreds):
		return cfg, unusable("NATSCreds")
	case strings.ContainsFunc(cfg.PublishToken, func(r rune) bool { return r <= ' ' || r > '~' }):
		return cfg, errors.New("PUBLISH_TOKEN cannot be used: it takes letters, digits and signs without spaces")
	case cfg.TickInterval != 0 && cfg.TickInterval < 10*time.Millisecond:
		return cfg, unusable("TickInterval")
	}
	// Go takes a zone that it cannot find for UTC.
	if tz := os.Getenv("TZ"); time.Local.String() == "UTC" && strings.TrimPrefix(tz, ":") != "" && strings.TrimPrefix(tz, ":") != "UTC" {
		return cfg, fmt.Errorf("TZ=%q cannot be used: it takes a time zone such as Europe/Berlin or UTC", tz)
	}
	return cfg, nil
}

// areOrigins tells whether browsers could send each of them, letter for letter, or it is * alone.
func areOrigins(origins []string) bool {
	for _, origin := range origins {
		u, err := url.Parse(origin)
		exact := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" &&
			origin == strings.ToLower(u.Scheme+"://"+u.Host) && !strings.Contains(origin, "*")
		if !exact && !(origin == "*" && len(origins) == 1) {
			return false
		}
	}
	return true
}

// isStreamName tells whether NATS takes that for the name of a stream and of a subject.
func isStreamName(name string) bool {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	return name != "" && len(name) <= 64 && strings.Trim(name, plain) == ""
}

func isReadable(file string) bool {
	_, err := os.ReadFile(file)
	return err == nil
}

// unusable is the error for a field of config whose variable cannot be used.
func unusable(name string) error {
	field, _ := reflect.TypeFor[config]().FieldByName(name)
	variable := field.Tag.Get("env")
	return fmt.Errorf("%s=%q cannot be used: it takes %s", variable, os.Getenv(variable), field.Tag.Get("takes"))
}
