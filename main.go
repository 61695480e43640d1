// Command gin-sse is the Express tutorial on server-sent events, on Gin.
package main

import (
	"embed"
	"fmt"
	"io"
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
func routes(app *gin.Engine, cfg config.Config, events *handlers.Events, status *handlers.Status) {
	files := handlers.Assets(assets, "public", "index.html")
	app.Use(handlers.Static(files))

	get := []string{http.MethodGet, http.MethodHead}
	app.Match(get, "/sse", handlers.SSE(events))
	app.POST("/sse", handlers.Authorize(cfg.PublishToken), handlers.Publish(events))
	app.Match(get, "/status", status.Page)
	app.Match(get, "/status/sse", status.Refresh, handlers.SSE(status.Viewers))
	app.Match(get, "/healthz", handlers.Health(events.Ready))
	app.Match(get, "/readyz", handlers.Ready(events.Ready))
	if cfg.Metrics {
		app.Match(get, "/metrics", handlers.Metrics(events))
	}

	app.NoRoute(handlers.NotFound(app.Routes(), files))
	app.NoMethod(handlers.MethodNotAllowed)
}

// newApp returns the routes behind the middleware that every request goes through. It logs requests to out.
func newApp(cfg config.Config, events *handlers.Events, status *handlers.Status, out io.Writer) (http.Handler, error) {
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
	app.Use(handlers.RequestLog(out), gin.CustomRecoveryWithWriter(nil, handlers.InternalError))
	app.Use(handlers.WriteDeadline, handlers.LimitHeader, handlers.Secure(), handlers.CORS(cfg.AllowedOrigins))
	routes(app, cfg, events, status)
	return app, nil
}

// options say where the events are kept.
func options(cfg config.Config) handlers.Options {
	return handlers.Options{
		DataDir: cfg.DataDir,
		NATSURL: cfg.NATSURL, NATSStream: cfg.NATSStream, NATSReplicas: cfg.NATSReplicas, NATSCreds: cfg.NATSCreds,
		History: &cfg.History, HistoryBytes: &cfg.HistoryBytes, MaxEventBytes: cfg.MaxEventBytes,
		MaxClients: cfg.Clients(), Keepalive: cfg.Keepalive, SubscribeKey: cfg.SubscribeKey,
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
	fmt.Fprint(os.Stderr, cfg.Warnings(config.Environment()))
	out, closeLog := output.Standard()
	defer closeLog()
	gin.DebugPrintFunc = func(string, ...any) {} // Gin would print every route, and advice that this program already follows
	ctx, stop := server.UntilSignal()
	defer stop()
	port, err := server.Open(ctx, cfg.Server()) // first, so that nobody is refused while a large DATA_DIR is read
	if err != nil {
		return err
	}
	defer port.Close()
	events, err := handlers.Open(options(cfg))
	if err != nil {
		return err
	}
	defer events.Close()
	status := handlers.NewStatus(events, cfg.Viewers(), cfg.Keepalive)
	app, err := newApp(cfg, events, status, out)
	if err != nil {
		return err
	}
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()
	background.Go(func() { clock.Run(ctx, cfg.TickInterval, handlers.SimulateData(events)) })
	background.Go(func() { clock.Run(ctx, time.Second/2, status.Update) })
	background.Go(func() { clock.Run(ctx, time.Second, capacity.Collector(events.Bytes)) })
	return port.Serve(ctx, app, out, func() {
		events.Stop()
		status.Viewers.Stop()
	})
}
