// Package replica runs the program as one of several that share a NATS server.
package replica

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"gin-sse/test/internal/app"
	"gin-sse/test/internal/natsserver"
)

// NATS starts a server that asks for a password.
func NATS(t testing.TB) *natsserver.Server {
	t.Helper()
	return natsserver.Start(t, func(o *server.Options) { o.Username, o.Password = "user", "nats-secret" })
}

// Start starts the program.
func Start(t testing.TB, n *natsserver.Server, env ...string) *app.Server {
	t.Helper()
	return app.Start(t, append([]string{"PUBLISH_TOKEN=" + app.Token, "TICK_INTERVAL=0", "HISTORY=100000", fmt.Sprint("NATS_URL=nats://user:nats-secret@127.0.0.1:", n.Options.Port)}, env...)...)
}
