package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"gin-sse/internal/testcert"
)

var trafficSeed = flag.Uint64("traffic.seed", 0, "seed of the random traffic; 0 takes another one each time")

const trafficHistory = 8 << 20 // HISTORY_BYTES

// trafficTopics are published to all the time.
var trafficTopics = []string{"", "orders/1", "orders/2", "builds/7/log", "news", "nobody/reads/this"}

// The figures of the process are those of Linux.
func TestRandomTrafficLosesNothingAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	seed, lasts := *trafficSeed, time.Minute
	if seed == 0 {
		seed = rand.Uint64()
	}
	if testing.Short() {
		lasts = 5 * time.Second
	}
	certFile, keyFile, pool := testcert.Write(t)
	for _, server := range []struct {
		name string
		env  []string
		tls  *tls.Config
	}{
		{name: "in clear text"},
		{"over TLS", []string{"TLS_CERT_FILE=" + certFile, "TLS_KEY_FILE=" + keyFile}, &tls.Config{RootCAs: pool, ServerName: "localhost"}},
	} {
		t.Run(server.name, func(t *testing.T) {
			t.Parallel()
			t.Logf("-traffic.seed=%d makes the same traffic", seed)
			env := append(server.env, "METRICS=true", "TICK_INTERVAL=100ms", "PUBLISH_TOKEN="+token, fmt.Sprint("HISTORY_BYTES=", trafficHistory))
			s := &traffic{t: t, app: start(t, env...), tls: server.tls, seed: seed, sent: map[string]bool{}, stopping: make(chan struct{})}
			var end context.CancelFunc
			s.ctx, end = context.WithTimeout(context.Background(), lasts)
			defer end()
			s.run(lasts)
		})
	}
}

// traffic is one server and its clients.
type traffic struct {
	t        *testing.T
	app      *app
	tls      *tls.Config
	seed     uint64
	ctx      context.Context // of the time in which clients do what they should not
	stopping chan struct{}   // closed when the server is about to be told to stop

	mu   sync.Mutex
	sent map[string]bool // the names of all messages, accepted or not
}

func (s *traffic) run(lasts time.Duration) {
	var staying, working sync.WaitGroup
	var stayers []*stayer
	for i, topics := range [][]string{{""}, {"orders/1"}, {"orders/*"}, {"*"}, {"orders/2", "builds/*", "unknown"}, {"*"}} {
		r := &stayer{worker: s.worker(100 + i), client: s.visitor(protocol(i%3), false), topics: topics, open: make(chan struct{}), done: make(chan struct{})}
		stayers = append(stayers, r)
		staying.Go(r.stay)
		s.receive(r.open)
	}
	main := s.worker(0)
	probe := s.visitor(http11, false) // one connection, for the first figures, the last ones and all in between
	first := s.least(probe)

	workers := []*worker{main}
	for i := range 16 {
		w := s.worker(1 + i)
		workers = append(workers, w)
		working.Go(func() {
			for s.ctx.Err() == nil {
				w.act()
			}
		})
	}
	s.pause(lasts / 2)
	s.signal(syscall.SIGSTOP)
	s.pause(time.Second)
	s.signal(syscall.SIGCONT)
	most := s.figures(probe)
	for ; s.ctx.Err() == nil; s.pause(100 * time.Millisecond) {
		most.merge(s.figures(probe), math.Max)
	}
	working.Wait()
	if most[heap] > trafficHistory+100<<20 {
		s.t.Errorf("the server took too much: %v", most)
	}

	for _, topic := range trafficTopics {
		main.publishTo(probe, topic, "last")
	}
	for _, r := range stayers {
		s.receive(r.done)
		r.check(workers)
	}
	limit := maps.Clone(first)
	limit[heap] += trafficHistory + 10<<20 // for garbage
	begin, last := time.Now(), s.least(probe)
	for ; !last.within(limit); last = s.least(probe) {
		if time.Since(begin) > 3*patience {
			s.app.stop(syscall.SIGQUIT) // which prints all goroutines
			s.t.Fatalf("%v is left, want at most %v; it said:\n%s", last, limit, s.app.out.String())
		}
		for _, topic := range trafficTopics { // a failed write reports a client that has left
			main.publishTo(probe, topic, "more")
		}
	}
	s.t.Logf("%d messages\nat first %v\nat most  %v\nat last  %v after %v", len(s.sent), first, most, last, time.Since(begin))

	mute := s.visitor(http11, false)
	defer mute.leave(0)
	if _, err := mute.connect(); err != nil {
		s.t.Error(err)
	}
	close(s.stopping)
	if code := s.app.stop(syscall.SIGTERM); code != 0 {
		s.t.Errorf("exit status %d", code)
	}
	staying.Wait()
	expected := regexp.MustCompile(`^Server running on |http: TLS handshake error from |http2: server: error reading preface from |^\[GIN\] [^|]*\| (2..|4..) \|`)
	for line := range strings.Lines(s.app.out.String()) {
		if !expected.MatchString(line) {
			s.t.Errorf("unexpected in the log: %s", line)
		}
	}
}

func (s *traffic) signal(signal syscall.Signal) {
	if err := s.app.cmd.Process.Signal(signal); err != nil {
		s.t.Error(err)
	}
}

// receive waits until the channel is closed.
func (s *traffic) receive(closed <-chan struct{}) {
	s.t.Helper()
	select {
	case <-closed:
	case <-time.After(3 * patience):
		s.t.Fatalf("a stream that stays did not get everything in %v", 3*patience)
	}
}

// pause is how clients take their time, until the traffic ends.
func (s *traffic) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.ctx.Done():
	}
}

const heap = "go_memstats_heap_alloc_bytes"

// figures are metrics of the server, by name.
type figures map[string]float64

func (s *traffic) figures(probe *visitor) figures {
	_, text := probe.ask(context.Background(), http.MethodGet, "/metrics", nil, nil)
	found := figures{}
	for _, name := range []string{"go_goroutines", "process_open_fds", "gin_sse_subscribers", heap} {
		_, value, _ := strings.Cut(text, "\n"+name+" ")
		value, _, _ = strings.Cut(value, "\n")
		var err error
		if found[name], err = strconv.ParseFloat(value, 64); err != nil {
			s.t.Errorf("%s: %v", name, err)
		}
	}
	return found
}

// least is the figures without the goroutines that the metrics take for themselves, and with less garbage.
func (s *traffic) least(probe *visitor) figures {
	least := s.figures(probe)
	for range 20 {
		least.merge(s.figures(probe), math.Min)
	}
	return least
}

func (f figures) merge(other figures, choose func(a, b float64) float64) {
	for name := range f {
		f[name] = choose(f[name], other[name])
	}
}

func (f figures) within(limit figures) bool {
	for name, value := range f {
		if value > limit[name] {
			return false
		}
	}
	return true
}

type protocol int

const (
	http10 protocol = iota
	http11
	http2
)

// visitor is a client with connections of its own.
type visitor struct {
	*traffic
	http.Client
	slow bool // with a small buffer for what comes

	mu    sync.Mutex
	conns []*net.TCPConn
	left  bool
}

func (s *traffic) visitor(speaks protocol, slow bool) *visitor {
	v := &visitor{traffic: s, slow: slow}
	dial := func(context.Context, string, string) (net.Conn, error) {
		conn, err := v.connect()
		if speaks == http10 && s.tls != nil {
			conn = tls.Client(conn, s.tls)
		}
		if speaks == http10 {
			conn = oldConn{conn}
		}
		return conn, err
	}
	transport := &http.Transport{Protocols: new(http.Protocols), DialContext: dial, TLSClientConfig: s.tls.Clone()}
	transport.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 16 << 10}
	transport.Protocols.SetHTTP1(speaks != http2)
	transport.Protocols.SetHTTP2(speaks == http2 && s.tls != nil)
	transport.Protocols.SetUnencryptedHTTP2(speaks == http2 && s.tls == nil)
	if speaks == http10 {
		transport.DialTLSContext = dial
	}
	v.Transport = transport
	return v
}

func (v *visitor) connect() (net.Conn, error) {
	conn, err := net.Dial("tcp", "127.0.0.1:"+v.app.port)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	socket := conn.(*net.TCPConn)
	v.conns = append(v.conns, socket)
	if v.slow {
		err = socket.SetReadBuffer(4 << 10)
	}
	if v.left {
		conn.Close() // the transport finishes what nobody waits for
	}
	return conn, err
}

// leave ends the connections in one of three ways.
func (v *visitor) leave(way int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.left = true
	for _, conn := range v.conns {
		switch way { // errors: it may have been closed before
		case 0:
			_ = conn.SetLinger(0) // RST instead of FIN
		case 1:
			_ = conn.CloseWrite()
			v.pause(100 * time.Millisecond)
		}
		conn.Close()
	}
	v.CloseIdleConnections()
}

// oldConn makes net/http's client one of HTTP/1.0.
type oldConn struct{ net.Conn }

func (c oldConn) Write(p []byte) (int, error) {
	return c.Conn.Write(bytes.Replace(p, []byte(" HTTP/1.1\r\n"), []byte(" HTTP/1.0\r\n"), 1))
}

// open sends a request. The answer's body is to be closed.
func (v *visitor) open(ctx context.Context, method, path string, header http.Header, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, v.app.url+path, body)
	if err != nil {
		return nil, err
	}
	maps.Copy(request.Header, header)
	request.Header.Set("Authorization", "Bearer "+token)
	return v.Do(request)
}

// ask sends a request and returns the answer; without one the status is 0.
func (v *visitor) ask(ctx context.Context, method, path string, header http.Header, body io.Reader) (status int, text string) {
	response, err := v.open(ctx, method, path, header, body)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	all, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(all)
}

// worker does one thing after the other.
type worker struct {
	*traffic
	*rand.Rand
	number, messages int
	accepted         []message // in the order in which they were sent
	latest           string    // id
}

// message is one that may arrive. Its name is its topic, a space, and a number.
type message struct{ topic, name string }

func (s *traffic) worker(number int) *worker {
	return &worker{traffic: s, Rand: rand.New(rand.NewPCG(s.seed, uint64(number))), number: number, latest: "none-0"}
}

func pick[T any](w *worker, from ...T) T { return from[w.IntN(len(from))] }

func (w *worker) upTo(d time.Duration) time.Duration { return time.Duration(w.Int64N(int64(d))) }

func (w *worker) act() {
	v := w.visitor(pick(w, http10, http11, http2), w.IntN(2) == 0)
	pick(w, w.follow, w.follow, w.follow, w.publish, w.publishLines, w.publishLines, w.breakOff, w.endTopic, w.look, w.mumble)(v)
	v.leave(w.IntN(3))
}

// follow opens streams and reads them well, slowly or not at all, until it leaves.
func (w *worker) follow(v *visitor) {
	ctx, cancel := context.WithCancel(context.Background())
	var streams sync.WaitGroup
	for range 1 + w.IntN(4) {
		path := pick(w, "/sse?", "/sse?topic=orders/1&", "/sse?topic=orders/2&topic=news&", "/sse?topic=*&", "/sse?topic=builds/7/*&topic=orders/*&", "/sse?topic=nobody/reads/this&", "/status/sse?")
		epoch, _, _ := strings.Cut(w.latest, "-")
		id := pick(w, "", "earliest", w.latest, w.latest, w.latest+"0", epoch+"-0", epoch+"-18446744073709551615", "nonsense", "-")
		header := http.Header{"Last-Event-Id": {id}}
		if w.IntN(2) == 0 {
			header, path = nil, path+"lastEventId="+id
		}
		piece := pick(w, 64<<10, 64<<10, 100, 0)
		streams.Go(func() {
			response, err := v.open(ctx, http.MethodGet, path, header, nil)
			if err != nil {
				return // it has left
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusOK {
				v.t.Errorf("GET %s with %v: %s", path, header, response.Status)
			}
			for buffer := make([]byte, piece); err == nil && ctx.Err() == nil; {
				if _, err = response.Body.Read(buffer); piece < 1<<10 {
					v.pause(10 * time.Millisecond)
				}
			}
		})
	}
	w.pause(w.upTo(pick(w, time.Second/10, time.Second/10, time.Second, time.Second, time.Second, time.Second, time.Second, 20*time.Second)))
	if w.IntN(2) == 0 {
		v.leave(w.IntN(3))
	}
	cancel() // on HTTP/2 the connection stays
	streams.Wait()
}

// compose returns a new message, and its text: its name and a filling.
func (w *worker) compose(topic string) (m message, text string) {
	w.messages++
	m = message{topic, fmt.Sprintf("%s %d-%d", topic, w.number, w.messages)}
	w.mu.Lock()
	w.sent[m.name] = true
	w.mu.Unlock()
	return m, m.name + "|" + strings.Repeat("x", pick(w, 0, 0, 0, w.IntN(2<<10), w.IntN(32<<10))) + "."
}

func (w *worker) publish(v *visitor) {
	for range w.IntN(20) {
		w.publishTo(v, pick(w, trafficTopics...), "")
		w.pause(w.upTo(10 * time.Millisecond))
	}
}

// publishTo sends a message. If it has a key, it may have been sent before without waiting for the answer.
func (w *worker) publishTo(v *visitor, topic, event string) {
	m, text := w.compose(topic)
	query := url.Values{}
	for name, value := range map[string]string{"topic": topic, "event": event} {
		if value != "" {
			query.Set(name, value)
		}
	}
	header, body := http.Header{"Content-Type": {"application/json"}}, `{"message":"`+text+`"}`
	if w.IntN(2) == 0 {
		header, body = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, url.Values{"message": {text}}.Encode()
	}
	send := func(ctx context.Context) (status int, answer string) {
		return v.ask(ctx, http.MethodPost, "/sse?"+query.Encode(), header, strings.NewReader(body))
	}
	before, first := 0, ""
	if w.IntN(2) == 0 {
		header.Set("Idempotency-Key", m.name)
		hurry, cancel := context.WithTimeout(context.Background(), w.upTo(5*time.Millisecond))
		before, first = send(hurry)
		cancel()
	}
	status, answer := send(context.Background())
	var result struct{ ID string }
	if err := json.Unmarshal([]byte(answer), &result); err != nil || status != http.StatusAccepted || before != 0 && answer != first {
		w.t.Errorf("publish %s: status %d: %s; before that %d: %s", m.name, status, answer, before, first)
		return
	}
	w.accepted, w.latest = append(w.accepted, m), result.ID
}

var errBrokenOff = errors.New("broken off")

// breakOff sends half an event, or does not wait for the answer.
func (w *worker) breakOff(v *visitor) {
	topic := pick(w, trafficTopics[1:]...)
	header, body := http.Header{"Content-Type": {"application/json"}}, io.MultiReader(strings.NewReader(`"half`), iotest.ErrReader(errBrokenOff))
	if w.IntN(2) == 0 {
		_, text := w.compose(topic)
		body = strings.NewReader(`{"message":"` + text + `"}`)
	}
	ctx, cancel := context.WithTimeout(context.Background(), w.upTo(100*time.Millisecond))
	defer cancel()
	v.ask(ctx, http.MethodPost, "/sse?topic="+topic, header, body)
}

// publishLines sends a long request, and may break it off in the middle of a line. HTTP/1.0 has none of unknown length.
func (w *worker) publishLines(*visitor) {
	v := w.visitor(pick(w, http11, http2), false)
	defer v.leave(w.IntN(3))
	topic := pick(w, trafficTopics[1:]...)
	header, begin, end := http.Header{"Content-Type": {"text/plain"}}, "", "\n"
	if w.IntN(2) == 0 {
		header, begin, end = http.Header{"Content-Type": {"application/x-ndjson"}}, `{"message":"`, "\"}\n"
	}
	var sent []message
	var parts []io.Reader
	for range w.IntN(50) {
		m, text := w.compose(topic)
		sent = append(sent, m)
		parts = append(parts, strings.NewReader(begin+text+end), pausing{w.traffic, w.upTo(20 * time.Millisecond)})
	}
	whole := w.IntN(2) == 0
	if !whole {
		parts = append(parts, strings.NewReader(begin+"half"), iotest.ErrReader(errBrokenOff))
	}
	status, answer := v.ask(context.Background(), http.MethodPost, "/sse?topic="+topic, header, io.MultiReader(parts...))
	if !whole {
		return
	}
	if status != http.StatusAccepted || !strings.HasPrefix(answer, fmt.Sprintf(`{"events":%d,`, len(sent))) {
		w.t.Errorf("%d lines to %s: status %d: %s", len(sent), topic, status, answer)
		return
	}
	w.accepted = append(w.accepted, sent...)
}

// pausing is an empty part of a body that takes time.
type pausing struct {
	*traffic
	time.Duration
}

func (p pausing) Read([]byte) (int, error) {
	p.pause(p.Duration)
	return 0, io.EOF
}

// endTopic publishes to a topic of its own and ends it.
func (w *worker) endTopic(v *visitor) {
	m, text := w.compose(fmt.Sprintf("ended/%d-%d", w.number, w.messages))
	path, plain := "/sse?topic="+m.topic, http.Header{"Content-Type": {"text/plain"}}
	stream, err := v.open(context.Background(), http.MethodGet, path, nil, nil)
	if err != nil {
		w.t.Error(err)
		return
	}
	defer stream.Body.Close()
	post := func(path, line string) (status int, answer string) {
		return v.ask(context.Background(), http.MethodPost, path, plain, strings.NewReader(line))
	}
	status, answer := post(path+"&end=true", text)
	w.accepted = append(w.accepted, m)
	all, err := io.ReadAll(stream.Body)
	if status != http.StatusAccepted || err != nil || strings.Count(string(all), text) != 1 {
		w.t.Errorf("%s: status %d: %s; its stream ended with %v after %.200q", path, status, answer, err, all)
	}
	var last struct{ ID string }
	_ = json.Unmarshal([]byte(answer), &last) // without the id the next status is another one
	if status, answer := v.ask(context.Background(), http.MethodGet, path, http.Header{"Last-Event-Id": {last.ID}}, nil); status != http.StatusNoContent {
		w.t.Errorf("GET %s after its end: status %d: %s", path, status, answer)
	}
	if status, answer := post(path, "late"); status != http.StatusConflict {
		w.t.Errorf("POST %s after its end: status %d: %s", path, status, answer)
	}
}

// look asks for pages, and makes mistakes.
func (w *worker) look(v *visitor) {
	for range w.IntN(5) {
		request := pick(w, "GET / 200", "GET /app.js 200", "GET /style.css 200", "GET /status 200", "GET /healthz 200", "GET /metrics 200", "HEAD /sse 200", "GET /nope 404", "DELETE /sse 405",
			"GET /sse?topic=a//b 400", "GET /sse?topic=private/orders 403", "POST /sse?topci=news 400", "POST /sse 415")
		part := strings.Fields(request)
		if status, answer := v.ask(context.Background(), part[0], part[1], nil, nil); strconv.Itoa(status) != part[2] {
			w.t.Errorf("%s: status %d: %s", request, status, answer)
		}
	}
}

// mumble says nothing, or nothing that makes sense.
func (w *worker) mumble(v *visitor) {
	conn, err := v.connect()
	if err != nil {
		w.t.Error(err)
		return
	}
	const http2Settings = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	_, _ = io.WriteString(conn, pick(w, "", "", "GET /sse HT", "GET /sse HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", "\x16\x03\x01\x00", http2Settings, http2Settings+"\xff", "\r\n\x00"))
	w.pause(w.upTo(2 * time.Second))
}

// stayer reads a stream well, and resumes it when it was cut off.
type stayer struct {
	*worker
	client *visitor
	topics []string
	open   chan struct{} // closed at the first block
	done   chan struct{} // closed when it has the last message of each topic
	lasts  int           // how many of those it has
	lastID string
	number uint64         // of lastID
	places map[string]int // of the messages that came, by name
}

var errCut = errors.New("cut off")

func (r *stayer) stay() {
	err := errCut
	for err == errCut {
		err = r.read()
	}
	select {
	case <-r.stopping:
		if err != nil {
			r.t.Errorf("the stream of %q did not end properly: %v", r.topics, err)
		}
	default:
		r.t.Errorf("the stream of %q ended: %v", r.topics, err)
	}
}

// read reads one stream to its end, or returns errCut when it cuts it off at random.
func (r *stayer) read() error {
	path, header := "/sse", http.Header{}
	if r.topics[0] != "" {
		path += "?" + url.Values{"topic": r.topics}.Encode()
	}
	if r.lastID != "" {
		header.Set("Last-Event-ID", r.lastID)
	}
	response, err := r.client.open(context.Background(), http.MethodGet, path, header, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	event, lines := map[string]string{}, bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if lines.Text() == "" {
			r.take(event["id"], event["event"], event["data"])
			if event["id"] != "" && len(r.places) > 0 && r.IntN(50) == 0 && r.ctx.Err() == nil {
				return errCut
			}
			clear(event)
			continue
		}
		field, value, _ := strings.Cut(lines.Text(), ":")
		event[field] = value
	}
	return lines.Err()
}

// take checks one event, and notes the place of a message.
func (r *stayer) take(id, event, data string) {
	_, digits, _ := strings.Cut(id, "-")
	number, err := strconv.ParseUint(digits, 10, 64)
	switch {
	case id == "": // a tick or a comment
		return
	case data == "", event == "position": // where the stream begins, or a topic's end
		if r.places == nil {
			r.places = map[string]int{}
			close(r.open)
		}
		r.lastID, r.number = id, max(r.number, number)
		return
	case err != nil, number <= r.number:
		r.t.Errorf("%q: %s came after %s", r.topics, id, r.lastID)
	}
	r.lastID, r.number = id, number
	var content struct{ Message string }
	err = json.Unmarshal([]byte(data), &content)
	name, filling, _ := strings.Cut(content.Message, "|")
	topic, _, _ := strings.Cut(name, " ")
	r.mu.Lock()
	sent := r.sent[name]
	r.mu.Unlock()
	if _, twice := r.places[name]; twice || !sent || err != nil || !strings.HasSuffix(filling, ".") || !r.follows(topic) {
		r.t.Errorf("%q: unexpected event %q %.200s", r.topics, event, data)
	}
	r.places[name] = len(r.places)
	if event == "last" {
		r.lasts++
	}
	if r.lasts == len(slices.DeleteFunc(slices.Clone(trafficTopics), func(topic string) bool { return !r.follows(topic) })) {
		close(r.done)
		r.lasts = 0
	}
}

func (r *stayer) follows(topic string) bool {
	return slices.ContainsFunc(r.topics, func(pattern string) bool {
		below, wildcard := strings.CutSuffix(pattern, "*")
		return pattern == topic || wildcard && topic != "" && strings.HasPrefix(topic, below)
	})
}

// check compares what came with what was accepted.
func (r *stayer) check(workers []*worker) {
	for _, w := range workers {
		before := -1
		for _, m := range w.accepted {
			if !r.follows(m.topic) {
				continue
			}
			place, came := r.places[m.name]
			if !came || place < before {
				r.t.Errorf("%q: %s came %v, out of order %v", r.topics, m.name, came, place < before)
			}
			before = place
		}
	}
}
