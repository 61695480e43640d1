// Package command is what gin-sse does when it is called: its arguments, and the commands beside the server.
package command

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"gin-sse/internal/config"
	"gin-sse/internal/event"
	"gin-sse/internal/journal"
	"gin-sse/internal/secret"
	"gin-sse/internal/server"
	"gin-sse/internal/token"
)

const help = `gin-sse is the Express tutorial on server-sent events, on Gin.

  gin-sse                    start the server
  gin-sse healthcheck        ask the server on PORT whether it is well
  gin-sse healthcheck ready  ask it whether clients should come to it
  gin-sse token TOPIC...     make a token for private topics: --for 1h, --sub NAME
  gin-sse backup FILE        copy the messages in DATA_DIR of the server that runs
  gin-sse --help             print this text
  gin-sse --version          print what was built

The settings are environment variables. Each is shown with its default and what it accepts.

`

// Run does what the arguments ask for, and prints to out what they ask for. Without arguments it calls serve.
func Run(args []string, out io.Writer, serve func(config.Config) error) error {
	command := strings.Join(args, " ")
	switch command { // whatever the settings are
	case "help", "-h", "--help":
		return usage(out)
	case "version", "--version":
		return version(out)
	}
	cfg, err := config.Load(config.Environment())
	switch {
	case err != nil:
		return err
	case command == "":
		return serve(cfg)
	case command == "healthcheck":
		return server.CheckHealth(cfg.Server(), "/healthz")
	case command == "healthcheck ready":
		return server.CheckHealth(cfg.Server(), "/readyz")
	case len(args) == 2 && args[0] == "backup":
		return journal.Backup(cfg.DataDir, args[1])
	case args[0] == "token":
		secrets, err := cfg.Secrets()
		if err != nil {
			return err
		}
		return issue(args[1:], secrets.SubscribeKeys, cfg.PublicTopics, out)
	}
	return fmt.Errorf("unknown arguments %q: gin-sse --help lists the known ones", args)
}

// usage prints the commands, and every setting with its default and what it accepts.
func usage(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, help)
	for field := range reflect.TypeFor[config.Config]().Fields() {
		fmt.Fprintf(table, "  %s\t%s\t%s\n", field.Tag.Get("env"), field.Tag.Get("envDefault"), field.Tag.Get("accepts"))
	}
	return table.Flush() // returns the first error of all writes
}

// version prints the version of the program, and of the Go that built it.
func version(out io.Writer) error {
	_, err := fmt.Fprintf(out, "gin-sse %s, built with %s\n", config.Version(), runtime.Version())
	return err
}

// issue prints a token for trying things out, signed with the first key; args are the arguments after "token".
func issue(args []string, keys *secret.List, public []string, out io.Writer) error {
	const example = "gin-sse token private/orders/alice --for 1h"
	flags := flag.NewFlagSet("token", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	lasts := flags.String("for", "1h", "")
	subject := flags.String("sub", "", "")
	var topics []string
	for len(args) > 0 { // package flag stops at the first topic
		if err := flags.Parse(args); err != nil {
			return fmt.Errorf("%w: give one topic or more, --for a duration, and --sub a name if you like, as in %s", err, example)
		}
		if args = flags.Args(); len(args) > 0 {
			topics, args = append(topics, args[0]), args[1:]
		}
	}

	lifetime, err := time.ParseDuration(*lasts)
	switch {
	case err != nil || lifetime < time.Second:
		return fmt.Errorf("--for %q cannot be used: it takes a duration of a second or more, such as 30m or 24h", *lasts)
	case len(topics) == 0:
		return errors.New("a token needs a topic, as in " + example)
	case len(keys.All()) == 0:
		return errors.New("SUBSCRIBE_KEY is not set: a token is signed with the same SUBSCRIBE_KEY that the server has")
	}
	for _, topic := range topics {
		if event.CheckPattern(topic) == nil && event.Public(public).Covers(topic) {
			return fmt.Errorf("%q needs no token: only topics that begin with private/ do, and those that are not in PUBLIC_TOPICS", topic)
		}
	}
	text, err := token.Issue(keys.All()[0].Value, topics, *subject, lifetime)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, text)
	return err
}
