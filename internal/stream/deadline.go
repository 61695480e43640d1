package stream

import "time"

const (
	// writeTimeout is how long a client has to take piece bytes before it is cut off. Extend may give it a third more.
	writeTimeout = 10 * time.Second
	piece        = 64 << 10
)

// Deadline cuts off a client that reads too slowly, or not at all. It belongs to the goroutine that writes.
type Deadline struct {
	Conn interface { // a net.Conn or an http.ResponseController
		SetReadDeadline(time.Time) error
		SetWriteDeadline(time.Time) error
	}
	at time.Time
}

// Write writes p in pieces, with a deadline for each.
func (d *Deadline) Write(p []byte, write func(p []byte) (int, error)) (n int, err error) {
	for n < len(p) && err == nil {
		if err = d.Extend(); err == nil {
			var written int
			written, err = write(p[n:min(len(p), n+piece)])
			n += written
		}
	}
	return n, err
}

// Extend makes sure that the next write has its time. It leaves a deadline that is far enough away as it is,
// because setting one for every write would be a tenth of what an event costs.
func (d *Deadline) Extend() error {
	now := time.Now()
	if d.at.Sub(now) >= writeTimeout {
		return nil
	}
	d.at = now.Add(writeTimeout * 4 / 3)
	return d.Conn.SetWriteDeadline(d.at)
}

// clear removes the deadline, so that the stream may be silent for any time. On HTTP/2 a deadline that passes
// ends the stream even if nothing is being written.
func (d *Deadline) clear() {
	d.at = time.Time{}
	_ = d.Conn.SetWriteDeadline(d.at) // the next write reports a connection that is gone
}
