// Command gin-sse is the Express tutorial on server-sent events, on Gin.
package main

import (
	"context"
	"embed"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"
	_ "time/tzdata" // makes TZ work where there are no zone files, as in the container

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
	"gin-sse/internal/capacity"
	"gin-sse/internal/clock"
	"gin-sse/internal/command"
	"gin-sse/internal/config"
	"gin-sse/internal/output"
	"gin-sse/internal/server"
)

//go:embed all:public all:templates
var assets embed.FS

// routes is the tutorial's server.js: each address, and the handler that answers it.
func routes(app *gin.Engine, cfg config.Config, s services) {
	get := []string{http.MethodGet, http.MethodHead}
	app.Match(get, "/sse", handlers.SSE(s.events))
	app.POST("/sse", handlers.Authorize(s.secrets.PublishTokens), handlers.Publish(s.events))
	app.Match(get, "/status", s.status.Page)
	app.Match(get, "/status/sse", s.status.Refresh, handlers.SSE(s.status.Viewers))
	app.Match(get, "/healthz", handlers.Health(s.events.Ready))
	app.Match(get, "/readyz", handlers.Ready(s.running, s.events.Ready))
	if cfg.Metrics {
		app.Match(get, "/metrics", s.metrics.Page)
	}

	files := handlers.Assets(assets, "public", "index.html")
	app.NoRoute(handlers.Static(files), handlers.NotFound(app.Routes(), files))
	app.NoMethod(handlers.MethodNotAllowed)
}

// services are what the handlers need.
type services struct {
	running context.Context // ends when the server is told to stop
	secrets config.Secrets
	events  *handlers.Events
	status  *handlers.Status
	metrics *handlers.Metrics // nil if they are off
}

// close ends every stream.
func (s services) close() {
	s.events.Stop()
	s.status.Viewers.Stop()
}

// newApp returns the routes behind the middleware that every request goes through.
func newApp(cfg config.Config, s services, log *slog.Logger) (http.Handler, error) {
	app := gin.New()
	app.HandleMethodNotAllowed = true
	app.RedirectTrailingSlash = false // a redirect would go past the middleware, and lose the body of a POST
	err := app.SetTrustedProxies(cfg.TrustedProxies)
	if err != nil {
		return nil, fmt.Errorf("TRUSTED_PROXIES: %w", err)
	}
	if app.HTMLRender, err = handlers.NewPages(handlers.Assets(assets, "templates", "error.html"), app.FuncMap); err != nil {
		return nil, err
	}
	app.Use(handlers.RequestLog(log))
	if cfg.Metrics {
		s.metrics = handlers.NewMetrics(s.events)
		app.Use(s.metrics.Count)
	}
	app.Use(gin.CustomRecoveryWithWriter(nil, handlers.InternalError), handlers.WriteDeadline, handlers.PageErrors, handlers.LimitHeader, handlers.Secure(), handlers.CORS(cfg.AllowedOrigins))
	routes(app, cfg, s)
	return app, nil
}

// options say where the events are kept.
func options(cfg config.Config, secrets config.Secrets) handlers.Options {
	return handlers.Options{
		DataDir: cfg.DataDir,
		NATSURL: cfg.NATSURL, NATSStream: cfg.NATSStream, NATSReplicas: cfg.NATSReplicas, NATSCreds: cfg.NATSCreds,
		History: &cfg.History, HistoryBytes: &cfg.HistoryBytes, MaxEventBytes: cfg.MaxEventBytes,
		MaxClients: cfg.Clients(), Keepalive: cfg.Keepalive, SubscribeKeys: secrets.SubscribeKeys, PublicTopics: cfg.PublicTopics,
	}
}

func main() {
	if err := command.Run(os.Args[1:], os.Stdout, serve); err != nil {
		fmt.Fprintln(os.Stderr, "gin-sse:", err)
		os.Exit(1)
	}
}

// serve runs the server until it is told to stop, and then ends every stream properly.
func serve(cfg config.Config) error {
	capacity.KeepToMemoryLimit()
	greet, closeLog := output.Standard(cfg.LogFormat)
	defer closeLog()
	gin.DebugPrintFunc = func(string, ...any) {} // Gin would print every route, and advice that this program already follows
	cfg.Warn()
	var s services
	var stop context.CancelFunc
	s.running, stop = server.UntilSignal()
	defer stop()
	port, err := server.Open(s.running, cfg.Server()) // first, so that nobody is refused while a large DATA_DIR is read
	if err != nil {
		return err
	}
	defer port.Close()
	if s.secrets, err = cfg.Secrets(); err != nil {
		return err
	}
	if s.events, err = handlers.Open(options(cfg, s.secrets)); err != nil {
		return err
	}
	defer s.events.Close()
	s.status = handlers.NewStatus(s.events, cfg.Viewers(), cfg.Keepalive)
	app, err := newApp(cfg, s, slog.Default())
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(context.Background())
	var background sync.WaitGroup
	defer background.Wait()
	defer end()
	every := func(interval time.Duration, do func(time.Time)) {
		background.Go(func() { clock.Run(ctx, interval, do) })
	}
	every(cfg.TickInterval, handlers.SimulateData(s.events))
	every(time.Second/2, s.status.Update)
	every(time.Second/4, capacity.Collector(s.events.Bytes))
	every(5*time.Second, s.secrets.Reload)
	every(5*time.Second, port.Reload)
	greet("Server running on "+port.URL(), cfg.About(s.events.About())...)
	return port.Serve(s.running, app, s.close)
}
