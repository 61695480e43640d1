// Package command is what the program can do: the server, and small commands beside it.
package command

import (
	"fmt"
	"os"
	"strings"

	"gin-sse/internal/config"
	"gin-sse/internal/journal"
	"gin-sse/internal/server"
	"gin-sse/internal/token"
)

// Run does what the arguments ask for: without any, serve runs the server.
func Run(args []string, serve func(config.Config) error) error {
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
		secrets, err := cfg.Secrets()
		if err != nil {
			return err
		}
		return token.Command(args[1:], secrets.SubscribeKeys, cfg.PublicTopics, os.Stdout)
	case len(args) == 2 && args[0] == "backup":
		return journal.Backup(cfg.DataDir, args[1])
	}
	switch command {
	case "":
		return serve(cfg)
	case "healthcheck":
		return server.CheckHealth(cfg.Server(), "/healthz")
	case "healthcheck ready":
		return server.CheckHealth(cfg.Server(), "/readyz")
	}
	return fmt.Errorf("unknown arguments %q: gin-sse --help lists the known ones", args)
}
