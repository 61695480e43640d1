package handlers

import (
	"net/http"
	"time"
)

// writeTimeout is how long a client may need to take 64 KiB before it is cut off, at least; it may be a
// third longer.
const writeTimeout = 10 * time.Second

// deadline cuts off a client that takes what it is sent too slowly, or not at all. It is set once in a few
// writes: setting it for every one would be a tenth of what an event costs.
type deadline struct {
	connection *http.ResponseController
	at         time.Time
}

// extend gives the next write its time.
func (d *deadline) extend() error {
	now := time.Now()
	if d.at.Sub(now) >= writeTimeout {
		return nil
	}
	d.at = now.Add(writeTimeout * 4 / 3)
	return d.connection.SetWriteDeadline(d.at)
}

// clear is for a time without writes.
func (d *deadline) clear() {
	d.at = time.Time{}
	_ = d.connection.SetWriteDeadline(d.at) // a connection that cannot take it is gone
}
