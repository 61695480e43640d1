// Command gin-sse is the Express tutorial on server-sent events, on Gin.
package main

import (
	"embed"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // makes TZ work where there are no zone files, as in the container

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
	"gin-sse/internal/capacity"
	"gin-sse/internal/clock"
	"gin-sse/internal/config"
	"gin-sse/internal/hub"
	"gin-sse/internal/journal"
	"gin-sse/internal/output"
	"gin-sse/internal/server"
	"gin-sse/internal/storage"
	"gin-sse/internal/token"
)

//go:embed all:public all:templates
var assets embed.FS

// routes is the tutorial's server.js: each address, and the handler that answers it.
func routes(app *gin.Engine, cfg config.Config, s services) {
	get := []string{http.MethodGet, http.MethodHead}
	app.Match(get, "/sse", handlers.Private(s.tokens), handlers.Limit(cfg.Clients()), handlers.SSE(s.events))
	app.POST("/sse", handlers.Authorize(cfg.PublishToken), handlers.Publish(s.storage.Log, cfg.MaxEventBytes))
	app.Match(get, "/status", s.status.Page)
	app.Match(get, "/status/sse", handlers.Limit(cfg.Viewers()), s.status.Refresh, handlers.SSE(s.status.Viewers))
	app.Match(get, "/healthz", handlers.Health(s.storage.Ready))
	app.Match(get, "/readyz", handlers.Ready(s.storage.Ready))
	if cfg.Metrics {
		app.Match(get, "/metrics", handlers.Metrics(s.events, s.storage.Metrics))
	}

	files := handlers.Assets(assets, "public", "index.html")
	app.NoRoute(handlers.Static(files), handlers.NotFound(app.Routes(), files))
	app.NoMethod(handlers.MethodNotAllowed)
}

// services are what the handlers need.
type services struct {
	events  *hub.Hub
	storage storage.Storage
	tokens  *token.Verifier
	status  *handlers.Status
}

// close ends every stream.
func (s services) close() {
	s.events.Close()
	s.status.Viewers.Close()
}

// newApp returns the routes behind the middleware that every request goes through. It logs requests to out.
func newApp(cfg config.Config, s services, out io.Writer) (http.Handler, error) {
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
	routes(app, cfg, s)
	return app, nil
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gin-sse:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	command := strings.Join(args, " ")
	switch command {
	case "help", "-h", "--help":
		return config.Usage(os.Stdout)
	case "version", "--version":
		return config.Version(os.Stdout)
	}
	cfg, err := config.Load(config.Environment())
	if err != nil {
		return err
	}
	switch {
	case len(args) > 0 && args[0] == "token":
		return token.Command(args[1:], []byte(cfg.SubscribeKey), os.Stdout)
	case len(args) == 2 && args[0] == "backup":
		return journal.Backup(cfg.DataDir, args[1])
	}
	switch command {
	case "":
		capacity.KeepToMemoryLimit()
		fmt.Fprint(os.Stderr, cfg.Warnings(config.Environment()))
		return serve(cfg)
	case "healthcheck":
		return server.CheckHealth(cfg.Server(), "/healthz")
	case "healthcheck ready":
		return server.CheckHealth(cfg.Server(), "/readyz")
	}
	return fmt.Errorf("unknown arguments %q: gin-sse --help lists the known ones", args)
}

// serve runs the server until it is told to stop, and then ends every stream properly.
func serve(cfg config.Config) error {
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
	s := services{events: hub.New(cfg.Hub())}
	if s.tokens, err = token.New([]byte(cfg.SubscribeKey)); err != nil {
		return err
	}
	if s.storage, err = storage.Open(cfg, s.events, log.Printf); err != nil {
		return err
	}
	defer s.storage.Close()
	s.status = handlers.NewStatus(s.events, s.storage.Size, cfg.Keepalive)
	app, err := newApp(cfg, s, out)
	if err != nil {
		return err
	}
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()
	background.Go(func() { clock.Run(ctx, cfg.TickInterval, handlers.SimulateData(s.events)) })
	background.Go(func() { clock.Run(ctx, time.Second/2, s.status.Update) })
	background.Go(func() { clock.Run(ctx, time.Second, capacity.Collector(s.events.Bytes)) })
	return port.Serve(ctx, app, out, s.close)
}
