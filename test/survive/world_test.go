// Package survive lets bad things happen to NATS and to replicas, as docs/cluster.md lists them. Afterwards clients resume,
// and compare what they got with what publishers were promised.
package survive

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/tmaxmax/go-sse"

	"gin-sse/internal/testwait"
	"gin-sse/test/internal/app"
	"gin-sse/test/internal/natsserver"
	"gin-sse/test/internal/relay"
	"gin-sse/test/internal/tmpfs"
)

func TestMain(m *testing.M) {
	natsserver.RunIfAsked()
	app.Main(m)
}

// Topics. The clients that resume follow the first one.
const (
	topic = "v"
	other = "other"
	quiet = "quiet" // has one message, and no replica has loaded it
)

// end is the last message of each topic.
const end = `"end"`

// soon is how long a replica may take to say that it cannot do its work: 5 s, and more on a busy machine.
const soon = time.Minute

// world is what a scenario happens to.
type world struct {
	*testing.T
	nats     []*natsserver.Process
	disk     string // where the NATS servers store messages
	link     *relay.Relay
	replicas []*app.Server
	urls     []string   // of the replicas, which stay when these start anew
	env      [][]string // of each replica
	turn     atomic.Uint32
	books    books
}

// books are what publishers were promised.
type books struct {
	mu    sync.Mutex
	sent  int
	taken []delivery // with a 202
}

// delivery is a message or, without data, a gap.
type delivery struct {
	topic  string
	epoch  string
	number uint64
	data   string // JSON
}

func (d delivery) String() string {
	return fmt.Sprintf("%s-%d %.20s", d.epoch, d.number, cmp.Or(d.data, "gap"))
}

// isOurs reports whether this package published the message, and so did it once.
func (d delivery) isOurs() bool { return d.data == end || strings.HasPrefix(d.data, `"m`) }

// parse splits an id.
func parse(id string) (epoch string, number uint64, err error) {
	epoch, text, _ := strings.Cut(id, "-")
	number, err = strconv.ParseUint(text, 10, 64)
	return epoch, number, err
}

// start starts NATS and the replicas.
func start(t *testing.T, s scenario) *world {
	t.Helper()
	w := &world{T: t}
	if s.disk == "" {
		w.disk = t.TempDir()
	} else {
		w.disk = tmpfs.Mount(t, s.disk)
	}
	servers := max(s.servers, 1)
	w.nats = natsserver.StartProcesses(t, servers, w.disk, cmp.Or(s.jetstream, "max_file_store: 256M"))
	w.link = relay.New(t, strings.TrimPrefix(w.nats[0].URL, "nats://"))
	for i := range cmp.Or(s.replicas, 2) {
		url := w.url()
		if s.relayed && i == 0 {
			url = "nats://" + w.link.Address
		}
		w.env = append(w.env, append([]string{"PUBLISH_TOKEN=" + app.Token, "TICK_INTERVAL=0", "NATS_URL=" + url, fmt.Sprint("NATS_REPLICAS=", servers)}, s.env...))
		w.replicas = append(w.replicas, app.Start(t, w.env[i]...).Ready())
		w.env[i] = append(w.env[i], "PORT="+w.replicas[i].Port)
		w.urls = append(w.urls, w.replicas[i].URL)
	}
	t.Cleanup(func() {
		for i, r := range w.replicas {
			t.Logf("replica %d said:\n%s", i, strings.Join(r.Out.Lines("NATS"), "\n"))
		}
	})
	return w
}

// url is the address of all NATS servers.
func (w *world) url() string {
	var all []string
	for _, n := range w.nats {
		all = append(all, n.URL)
	}
	return strings.Join(all, ",")
}

// must ends the test at an error.
func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// direct is a NATS client of another program.
func (w *world) direct() (*nats.Conn, jetstream.JetStream) {
	w.Helper()
	nc, err := nats.Connect(w.url())
	w.must(err)
	w.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	w.must(err)
	return nc, js
}

// stream is the stream as another program sees it.
func (w *world) stream() jetstream.Stream {
	w.Helper()
	_, js := w.direct()
	s, err := js.Stream(w.Context(), "sse")
	w.must(err)
	return s
}

// edit changes the stream's settings, as an operator does.
func (w *world) edit(change func(*jetstream.StreamConfig)) {
	w.Helper()
	_, js := w.direct()
	config := w.stream().CachedInfo().Config
	change(&config)
	_, err := js.UpdateStream(w.Context(), config)
	w.must(err)
}

// copyNATS keeps a copy of what NATS has stored by now.
func (w *world) copyNATS() {
	w.Helper()
	n := w.nats[0]
	n.Stop()
	w.must(os.CopyFS(filepath.Join(w.disk, "copy"), os.DirFS(n.Dir)))
	n.Run()
}

// putBack puts that copy back. Meanwhile something else may happen.
func (w *world) putBack(meanwhile ...func()) {
	w.Helper()
	n := w.nats[0]
	n.Stop()
	w.must(os.RemoveAll(n.Dir))
	w.must(os.CopyFS(n.Dir, os.DirFS(filepath.Join(w.disk, "copy"))))
	for _, f := range meanwhile {
		f()
	}
	n.Run()
}

// restart stops a replica and starts it anew.
func (w *world) restart(i int) {
	w.Helper()
	w.stop(i)
	w.replicas[i] = app.Start(w.T, w.env[i]...)
}

func (w *world) stop(i int) {
	w.Helper()
	if code := w.replicas[i].Stop(syscall.SIGTERM); code != 0 {
		w.Errorf("replica %d has exit status %d; it said:\n%s", i, code, w.replicas[i].Out)
	}
}

// ready waits until clients may come to all replicas.
func (w *world) ready() {
	w.Helper()
	for _, r := range w.replicas {
		r.Ready()
	}
}

// next returns the data of a new message.
func (b *books) next() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent++
	return fmt.Sprintf(`"m%d"`, b.sent)
}

// take notes that a message is promised.
func (w *world) take(topic, id, data string) {
	epoch, number, err := parse(id)
	if err != nil {
		w.Errorf("the id %q: %v", id, err)
	}
	w.books.mu.Lock()
	defer w.books.mu.Unlock()
	w.books.taken = append(w.books.taken, delivery{topic, epoch, number, data})
}

// forgive forgets what was promised and need not come.
func (w *world) forgive(which func(delivery) bool) {
	w.books.mu.Lock()
	defer w.books.mu.Unlock()
	w.books.taken = slices.DeleteFunc(w.books.taken, which)
}

// takeFromStream notes that another program's message is promised.
func (w *world) takeFromStream(topic string, number uint64, data string) {
	w.take(topic, fmt.Sprintf("%s-%d", w.promised(quiet)[0].epoch, number), data)
}

// promised returns what was promised to followers of the topic.
func (w *world) promised(topic string) (all []delivery) {
	w.books.mu.Lock()
	defer w.books.mu.Unlock()
	for _, d := range w.books.taken {
		if d.topic == topic {
			all = append(all, d)
		}
	}
	return all
}

// post tries once to publish through a replica. It returns the status of the answer, or 0.
func (w *world) post(to int, topic, data string) (status int) {
	ctx, cancel := context.WithTimeout(w.Context(), testwait.Limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.urls[to]+"/sse?topic="+topic, strings.NewReader(data))
	if err != nil {
		w.Error(err)
		return 0
	}
	request.Header.Set("Authorization", "Bearer "+app.Token)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", topic+data)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	var answer struct{ ID string }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return 0
	}
	if response.StatusCode == http.StatusAccepted {
		w.take(topic, answer.ID, data)
	}
	return response.StatusCode
}

// send publishes to a topic, through these replicas in turn, or through all of them, until that is promised.
func (w *world) send(topic, data string, through ...int) {
	w.Helper()
	if len(through) == 0 {
		through = []int{0, len(w.replicas) - 1}
	}
	status := 0
	for deadline := time.Now().Add(testwait.Limit); time.Now().Before(deadline); {
		if status = w.post(through[w.turn.Add(1)%uint32(len(through))], topic, data); status == http.StatusAccepted {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.Errorf("%s is not taken; the last status is %d", data, status)
}

// publish sends n new messages to a topic.
func (w *world) publish(topic string, n int, through ...int) {
	w.Helper()
	for range n {
		w.send(topic, w.books.next(), through...)
	}
}

// refuses fails the test unless each of these replicas soon refuses to publish, says that it is not ready, and logs why.
func (w *world) refuses(why string, replicas ...int) {
	w.Helper()
	begin := time.Now()
	var posting sync.WaitGroup
	defer posting.Wait()
	for _, i := range replicas {
		posting.Go(func() {
			if status := w.post(i, topic, w.books.next()); status != http.StatusServiceUnavailable || time.Since(begin) > soon {
				w.Errorf("replica %d answers POST with %d after %v", i, status, time.Since(begin))
			}
		})
	}
	for _, i := range replicas {
		w.replicas[i].AwaitStatus("/readyz", http.StatusServiceUnavailable)
		if took := time.Since(begin); took > soon {
			w.Errorf("replica %d is ready for %v", i, took)
		}
		w.replicas[i].Out.Wait(w, why)
	}
}

// serves fails the test unless each replica gives a new client a topic that it has not loaded before.
func (w *world) serves() {
	w.Helper()
	for i := range w.replicas {
		c := &client{w: w, topic: quiet, at: i, last: "earliest"}
		c.read(func() bool { return len(c.got) == 1 })
	}
}

// client reads a topic. It goes to another replica when its stream ends.
type client struct {
	w     *world
	name  string
	topic string
	at    int    // replica
	last  string // id
	got   []delivery
	done  chan struct{} // closed when open has read enough
}

// has reports whether the client got a message.
func (c *client) has(data string) func() bool {
	return func() bool { return len(c.got) > 0 && c.got[len(c.got)-1].data == data }
}

// read reads from where it was until it has got enough.
func (c *client) read(enough func() bool) {
	c.w.Helper()
	ctx, cancel := context.WithTimeout(c.w.Context(), testwait.Limit)
	defer cancel()
	if err := c.tryToRead(ctx, enough); err != nil {
		c.w.Errorf("client %q waits for more than %v: %v", c.name, c.got[max(0, len(c.got)-3):], err)
	}
}

// open starts to read, in the background, until the client has got enough or end is called.
func (c *client) open(enough func() bool) (end func()) {
	c.w.Helper()
	ctx, cancel := context.WithCancel(c.w.Context())
	opened := make(chan struct{})
	open := sync.OnceFunc(func() { close(opened) })
	c.done = make(chan struct{})
	go func() {
		defer close(c.done)
		_ = c.tryToRead(ctx, func() bool { open(); return enough() }) // it tries until end is called
	}()
	testwait.Closed(c.w, "a stream", opened)
	return func() { cancel(); <-c.done }
}

// tryToRead reads until the client has got enough. The error is that of the last attempt before ctx ended.
func (c *client) tryToRead(ctx context.Context, enough func() bool) (last error) {
	for {
		done, err := c.readOnce(ctx, enough)
		if done {
			return nil
		}
		if ctx.Err() != nil {
			return cmp.Or(last, ctx.Err())
		}
		last = err
		c.at = (c.at + 1) % len(c.w.urls)
		time.Sleep(10 * time.Millisecond)
	}
}

func (c *client) readOnce(ctx context.Context, enough func() bool) (done bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.w.urls[c.at]+"/sse?topic="+c.topic, nil)
	if err != nil {
		return false, err
	}
	if c.last != "" {
		request.Header.Set("Last-Event-ID", c.last)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return false, errors.New(response.Status)
	}
	for event, err := range sse.Read(response.Body, &sse.ReadConfig{MaxEventSize: 2 << 20}) {
		if err != nil {
			return false, err
		}
		c.last = event.LastEventID
		if event.Type != "position" {
			d := delivery{topic: c.topic}
			if d.epoch, d.number, err = parse(event.LastEventID); err != nil {
				c.w.Errorf("client %q got the id %q: %v", c.name, event.LastEventID, err)
			}
			if event.Type != "gap" {
				d.data = event.Data
			}
			c.got = append(c.got, d)
		}
		if enough() {
			return true, nil
		}
	}
	return false, nil
}
