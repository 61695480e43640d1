package config

import (
	"fmt"
	"io"
	"reflect"
	"runtime"
	"runtime/debug"
	"text/tabwriter"
)

const commands = `gin-sse is the Express tutorial on server-sent events, on Gin.

  gin-sse                    start the server
  gin-sse healthcheck        ask the server on PORT whether it is well
  gin-sse healthcheck ready  ask it whether clients should come to it
  gin-sse token TOPIC...     make a token for private topics: --for 1h, --sub NAME
  gin-sse backup FILE        copy the messages in DATA_DIR of the server that runs
  gin-sse --help             print this text
  gin-sse --version          print what was built

The settings are environment variables. Each is shown with its default and what it accepts.

`

// Usage prints the commands, and every setting with its default and what it accepts.
func Usage(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, commands)
	for field := range reflect.TypeFor[Config]().Fields() {
		fmt.Fprintf(table, "  %s\t%s\t%s\n", field.Tag.Get("env"), field.Tag.Get("envDefault"), field.Tag.Get("accepts"))
	}
	return table.Flush() // returns the first error of all writes
}

// Version prints the version of the program, and of the Go that built it.
func Version(w io.Writer) error {
	_, err := fmt.Fprintf(w, "gin-sse %s, built with %s\n", builtVersion(), runtime.Version())
	return err
}

// builtVersion returns the version of the program.
func builtVersion() string {
	if build, ok := debug.ReadBuildInfo(); ok && build.Main.Version != "" { // go run main.go has none
		return build.Main.Version
	}
	return "(devel)"
}
