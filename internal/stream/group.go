package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// Group is the detached streams of one server. Its methods may be called from any number of goroutines.
type Group struct {
	buffers    *sync.Pool
	stopping   context.Context
	stop       context.CancelFunc
	departures *departures // nil in a group that nothing shuts down

	mu      sync.Mutex
	streams map[uint64]*detached // by id
	last    uint64               // id of the latest stream
	ending  bool                 // the server is about to stop: streams that end by themselves end because of that
	open    int                  // how many there are, those on HTTP/2 and those about to begin included
	shut    bool                 // Shutdown was called
	late    bool                 // Shutdown has cut off what was left
	empty   chan struct{}        // closed once shut is true and open is 0
}

// NewGroup returns an empty group. Shutdown frees what it holds.
func NewGroup() *Group {
	g := newGroup()
	g.departures = &departures{left: g.left}
	return g
}

// newGroup returns a group that holds nothing, because it notices no departures.
func newGroup() *Group {
	g := &Group{buffers: newBuffers(), streams: map[uint64]*detached{}, empty: make(chan struct{})}
	g.stopping, g.stop = context.WithCancel(context.Background())
	return g
}

// Context returns a context for http.Server.BaseContext, through which Detach finds the group. Without it a
// stream runs just the same, but nothing can stop it or wait for it.
func (g *Group) Context() context.Context { return g.Within(context.Background()) }

// Within returns the context of a request with the group, unless that has one already.
func (g *Group) Within(ctx context.Context) context.Context {
	if ctx.Value(groupKey{}) != nil {
		return ctx
	}
	return context.WithValue(ctx, groupKey{}, g)
}

type groupKey struct{}

func groupOf(ctx context.Context) *Group {
	if g, ok := ctx.Value(groupKey{}).(*Group); ok {
		return g
	}
	return newGroup()
}

// Stop ends the context of every stream. Calling it again does nothing.
func (g *Group) Stop() {
	g.Ending()
	g.stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.streams {
		s.finish(Stopped)
	}
}

// Ending says that the server is about to stop.
func (g *Group) Ending() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ending = true
}

// Open returns how many streams there are.
func (g *Group) Open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// complete returns why a stream ended whose function has returned by itself.
func (g *Group) complete() End {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ending {
		return Stopped
	}
	return Complete
}

// Shutdown stops all streams and waits until they have ended. If ctx ends first, it cuts off those that are left
// and returns why ctx ended. No stream begins after Shutdown; call it once.
func (g *Group) Shutdown(ctx context.Context) error {
	g.Stop()
	g.mu.Lock()
	g.shut = true
	if g.open == 0 {
		close(g.empty)
	}
	g.mu.Unlock()
	if g.departures != nil {
		defer g.departures.close()
	}
	select {
	case <-g.empty:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.late = true
	for _, s := range g.streams {
		s.cutOff()
	}
	return context.Cause(ctx)
}

// Stopping returns a context that ends when the server of this request stops.
func Stopping(c *gin.Context) context.Context { return groupOf(c.Request.Context()).stopping }

// LetGo frees what the streams of clients hold that have left by now. On Linux that happens by itself at once, but a new
// client can be even faster. LetGo is for middleware that runs out of places.
func LetGo(c *gin.Context) {
	if d := groupOf(c.Request.Context()).departures; d != nil {
		d.notice()
	}
}

// left ends a stream whose client has left.
func (g *Group) left(id uint64) {
	g.mu.Lock()
	s := g.streams[id] // nil if it has ended by itself
	g.mu.Unlock()
	if s != nil {
		s.finish(Left)
		s.free()
	}
}

// errStopped is the error of a stream that begins after Shutdown.
var errStopped = errors.New("the server has stopped")

// reserve reports whether a stream may begin. If so, Shutdown waits until release is called: a client that has
// seen the head of its answer must see its end as well.
func (g *Group) reserve() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.shut {
		g.open++
	}
	return !g.shut
}

func (g *Group) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open--; g.shut && g.open == 0 {
		close(g.empty)
	}
}

// add adds a stream for which reserve has returned true.
func (g *Group) add(s *detached) {
	g.mu.Lock()
	g.last++
	s.id = g.last
	g.streams[s.id] = s
	if g.stopping.Err() != nil {
		s.finish(Stopped)
	}
	if g.late {
		s.cutOff()
	}
	g.mu.Unlock()
	if g.departures != nil {
		g.departures.add(s.w.conn, s.id)
	}
}

func (g *Group) remove(s *detached) {
	s.end(Panicked) // unless it has another reason
	g.mu.Lock()
	delete(g.streams, s.id)
	g.mu.Unlock()
	g.release()
}

// detached is a stream that runs on a goroutine of its own. It is also the context of that stream: one of the
// standard library's would take twice the memory.
type detached struct {
	w    *writer
	id   uint64 // in its group
	done chan struct{}

	mu    sync.Mutex
	why   End // why the context ended; set before done is closed
	ended bool
	ends  []func(End)
}

func newDetached(w *writer) *detached {
	s := &detached{w: w, done: make(chan struct{})}
	w.failed = func() { s.finish(failed(w.err)) } // otherwise the function would learn only at the next event that the client has left
	if w.err != nil {
		w.failed()
	}
	return s
}

func (s *detached) Done() <-chan struct{}       { return s.done }
func (s *detached) Deadline() (time.Time, bool) { return time.Time{}, false }
func (s *detached) Value(any) any               { return nil }

func (s *detached) Err() error {
	select {
	case <-s.done:
		if s.why == Expired || s.why == Revoked {
			return context.DeadlineExceeded
		}
		return context.Canceled
	default:
		return nil
	}
}

// finish ends the context. Calling it again does nothing.
func (s *detached) finish(why End) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Err() == nil {
		s.why = why
		close(s.done)
	}
}

// end releases what the stream holds. Calling it again does nothing.
func (s *detached) end(why End) {
	s.finish(why)
	_ = s.w.conn.Close() // an error changes nothing: the stream is over
	s.free()
}

// cutOff closes the connection. The next write fails, which ends the stream.
func (s *detached) cutOff() {
	conn := s.w.conn
	if encrypted, ok := conn.(*tls.Conn); ok {
		conn = encrypted.NetConn() // to close the other one may wait five seconds until the client takes its last record
	}
	_ = conn.Close() // it is of no use any more
}

// free calls what was to be called at the end of the stream. Calling it again does nothing.
func (s *detached) free() {
	s.mu.Lock()
	ends := s.ends
	s.ended, s.ends = true, nil
	s.mu.Unlock()
	for _, f := range ends {
		f(s.why)
	}
}

// atEnd calls f when the stream ends, or at once if it has.
func (s *detached) atEnd(f func(End)) {
	s.mu.Lock()
	ended := s.ended
	if !ended {
		s.ends = append(s.ends, f)
	}
	s.mu.Unlock()
	if ended {
		f(s.why)
	}
}
