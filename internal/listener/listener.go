// Package listener opens the server's port so that clients which vanish are found out.
package listener

import (
	"context"
	"net"
	"time"
)

// vanished is for how long a client's machine may leave everything unacknowledged before its
// connection counts as lost.
const vanished = 40 * time.Second

// Listen opens a TCP port such as ":3000" or "127.0.0.1:0". A client that vanished without a word
// (its cable pulled, its battery empty) ends its connection within 60 s. Where the platform cannot
// bound how long data stays unacknowledged, this holds for connections without data under way.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	config := net.ListenConfig{
		Control: control,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable:   true,
			Idle:     vanished / 3,
			Interval: vanished / 3,
			Count:    2,
		},
	}
	return config.Listen(ctx, "tcp", address)
}
