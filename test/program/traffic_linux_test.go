package program

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"gin-sse/internal/testcert"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/app"
)

var (
	trafficSeed  = flag.Uint64("traffic.seed", 0, "seed of the random traffic; 0 takes another one each time")
	trafficLasts = flag.Duration("traffic.lasts", 20*time.Second, "how long clients come and go")
)

const trafficHistory = 8 << 20 // HISTORY_BYTES

// trafficTopics are published to all the time.
var trafficTopics = []string{"", "orders/1", "orders/2", "builds/7/log", "news", "nobody/reads/this"}

// After a while of everything that clients do, the server is as it was before, and those that stayed have it all. Only
// Linux has the figures that are compared.
func TestRandomTrafficLosesNothingAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	seed := *trafficSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	certFile, keyFile, pool := testcert.Write(t)
	for name, encrypted := range map[string]bool{"in clear text": false, "over TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Logf("-traffic.seed=%d makes the same choices", seed)
			s := &traffic{t: t, seed: seed, sent: map[string]bool{}, stopping: make(chan struct{})}
			settings := []string{"METRICS=true", "TICK_INTERVAL=100ms", "PUBLISH_TOKEN=" + app.Token, fmt.Sprint("HISTORY_BYTES=", trafficHistory)}
			if encrypted {
				s.tls = &tls.Config{RootCAs: pool}
				settings = append(settings, "TLS_CERT_FILE="+certFile, "TLS_KEY_FILE="+keyFile)
			}
			s.app = app.Start(t, settings...)
			s.run(*trafficLasts)
		})
	}
}

// traffic is one server and its clients.
type traffic struct {
	t        *testing.T
	app      *app.Server
	tls      *tls.Config
	seed     uint64
	ctx      context.Context // of the time in which clients come and go
	stopping chan struct{}   // closed before the server is told to stop
	stayers  []*stayer

	mu   sync.Mutex
	sent map[string]bool // the names of all messages, accepted or not
}

func (s *traffic) run(lasts time.Duration) {
	var end context.CancelFunc
	s.ctx, end = context.WithTimeout(context.Background(), lasts)
	defer end()
	var staying, working sync.WaitGroup
	for i, topics := range [][]string{{""}, {"orders/1"}, {"orders/*"}, {"*"}, {"orders/2", "builds/*", "unknown"}, {"*"}} {
		r := &stayer{worker: s.worker(100 + i), client: s.visitor(i%2 == 0, false), topics: topics}
		r.open, r.isOpen = context.WithCancel(context.Background())
		r.done, r.isDone = context.WithCancel(context.Background())
		for _, topic := range trafficTopics {
			if r.follows(topic) {
				r.until = topic
			}
		}
		s.stayers = append(s.stayers, r)
		staying.Go(r.stay)
		s.receive(r.open)
	}
	probe := s.visitor(false, false) // one connection, for the first figures, the last ones and all in between
	first := s.figures(probe)

	workers := []*worker{s.worker(0)}
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
	for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		if err := s.app.Cmd.Process.Signal(signal); err != nil {
			s.t.Error(err)
		}
		s.pause(time.Second)
	}
	highest := s.figures(probe)[heap]
	for s.ctx.Err() == nil {
		s.pause(time.Second / 10)
		highest = max(highest, s.figures(probe)[heap])
	}
	working.Wait()
	if highest > trafficHistory+100<<20 {
		s.t.Errorf("%.0f bytes were in use", highest)
	}

	for _, topic := range trafficTopics {
		workers[0].publishTo(probe, topic, "last")
	}
	for _, r := range s.stayers {
		s.receive(r.done)
	}
	limit := maps.Clone(first)
	limit[heap] += trafficHistory + 10<<20 // for garbage
	begin, last := time.Now(), s.figures(probe)
	for ; exceeds(last, limit); last = s.figures(probe) {
		if time.Since(begin) > testwait.Limit {
			s.app.Stop(syscall.SIGQUIT) // prints all goroutines
			s.t.Errorf("%v is left, want at most %v; it said:\n%s", last, limit, s.app.Out.String())
			break
		}
		for _, topic := range trafficTopics { // a failed write reports a client that has left
			workers[0].publishTo(probe, topic, "more")
		}
	}
	s.t.Logf("%d messages, up to %.0f bytes\nat first %v\nat last  %v after %v", len(s.sent), highest, first, last, time.Since(begin))

	s.app.Raw("") // a client that says nothing
	close(s.stopping)
	if code := s.app.Stop(syscall.SIGTERM); code != 0 {
		s.t.Errorf("exit status %d", code)
	}
	staying.Wait()
	for _, r := range s.stayers {
		r.check(workers)
	}
	expected := regexp.MustCompile(`^Server running on | msg=started | msg=(request|stream) .* status=(2..|4..) | msg="told to stop"|msg="stopped; all |http: TLS handshake error from |http2: server: error reading preface from `)
	for line := range strings.Lines(s.app.Out.String()) {
		if !expected.MatchString(line) {
			s.t.Errorf("unexpected in the log: %s", line)
		}
	}
}

// receive waits until ctx ends.
func (s *traffic) receive(ctx context.Context) {
	s.t.Helper()
	select {
	case <-ctx.Done():
	case <-time.After(testwait.Limit):
		s.t.Errorf("a client that stays did not get everything in %v", testwait.Limit)
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

// figures returns metrics of the server by name, each the lowest of a few measurements, which take goroutines and
// memory themselves.
func (s *traffic) figures(probe *visitor) map[string]float64 {
	lowest := map[string]float64{}
	for i := range 20 {
		_, text := probe.ask(context.Background(), http.MethodGet, "/metrics", nil, nil)
		for _, name := range []string{"go_goroutines", "process_open_fds", "gin_sse_subscribers", heap} {
			_, value, _ := strings.Cut(text, "\n"+name+" ")
			value, _, _ = strings.Cut(value, "\n")
			number, err := strconv.ParseFloat(value, 64)
			if err != nil {
				s.t.Errorf("%s: %v", name, err)
			}
			if i == 0 || number < lowest[name] {
				lowest[name] = number
			}
		}
	}
	return lowest
}

func exceeds(figures, limit map[string]float64) bool {
	for name, value := range figures {
		if value > limit[name] {
			return true
		}
	}
	return false
}

// visitor is a client with connections of its own.
type visitor struct {
	*traffic
	http.Client
	slow bool // with a small buffer for what comes

	mu    sync.Mutex
	conns []*net.TCPConn
	left  bool
}

func (s *traffic) visitor(http2, slow bool) *visitor {
	v := &visitor{traffic: s, slow: slow}
	transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: s.tls.Clone(), HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 16 << 10}}
	transport.DialContext = func(context.Context, string, string) (net.Conn, error) { return v.connect() }
	transport.Protocols.SetHTTP1(!http2)
	transport.Protocols.SetHTTP2(http2 && s.tls != nil)
	transport.Protocols.SetUnencryptedHTTP2(http2 && s.tls == nil)
	v.Transport = transport
	return v
}

func (v *visitor) connect() (net.Conn, error) {
	conn, err := net.Dial("tcp", "127.0.0.1:"+v.app.Port)
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
		conn.Close() // the transport connects even if nobody waits any more
	}
	return conn, err
}

// leave ends the connections in one of three ways.
func (v *visitor) leave(way int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.left = true
	for _, conn := range v.conns { // which may be closed already
		switch way {
		case 0:
			_ = conn.SetLinger(0) // RST instead of FIN
		case 1:
			_ = conn.CloseWrite()
			v.pause(time.Second / 10)
		}
		conn.Close()
	}
	v.CloseIdleConnections()
}

// open sends a request. The answer's body is to be closed.
func (v *visitor) open(ctx context.Context, method, path string, header http.Header, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, v.app.URL+path, body)
	if err != nil {
		return nil, err
	}
	maps.Copy(request.Header, header)
	request.Header.Set("Authorization", "Bearer "+app.Token)
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

// message is one that may arrive. Its name is its topic, a space, and numbers.
type message struct{ topic, name string }

func (s *traffic) worker(number int) *worker {
	return &worker{traffic: s, Rand: rand.New(rand.NewPCG(s.seed, uint64(number))), number: number, latest: "none-0"}
}

func pick[T any](w *worker, from ...T) T { return from[w.IntN(len(from))] }

func (w *worker) upTo(d time.Duration) time.Duration { return time.Duration(w.Int64N(int64(d))) }

func (w *worker) act() {
	v := w.visitor(w.IntN(2) == 0, w.IntN(2) == 0)
	pick(w, w.follow, w.follow, w.follow, w.publish, w.publishLines, w.publishLines, w.endTopic, w.look, w.mumble)(v)
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
		if w.IntN(2) == 0 && id != "" {
			header, path = nil, path+"lastEventId="+id
		}
		path = strings.TrimRight(path, "&?")
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
	second := time.Second
	w.pause(w.upTo(pick(w, second/10, second/10, second, second, second, second, second, 20*second)))
	if w.IntN(2) == 0 {
		v.leave(w.IntN(3))
	}
	cancel() // on HTTP/2 the connection stays
	streams.Wait()
}

// compose returns a new message, and its text: its name and a filling. It waits for clients that stay but are far
// behind, as this machine may be too slow for them to get what they missed before it is dropped.
func (w *worker) compose(topic string) (m message, text string) {
	for _, r := range w.stayers {
		for w.ctx.Err() == nil && numberOf(w.latest) > r.last.Load()+500 {
			w.pause(10 * time.Millisecond)
		}
	}
	w.messages++
	m = message{topic, fmt.Sprintf("%s %d-%d", topic, w.number, w.messages)}
	w.mu.Lock()
	w.sent[m.name] = true
	w.mu.Unlock()
	return m, m.name + "|" + strings.Repeat("x", pick(w, 0, 0, 0, w.IntN(2<<10), w.IntN(32<<10))) + "."
}

func (w *worker) publish(v *visitor) {
	for range w.IntN(20) {
		w.publishTo(v, pick(w, trafficTopics...), "some")
		w.pause(w.upTo(10 * time.Millisecond))
	}
}

// publishTo sends a message. If it has a key, it is sent twice, the first time without much patience.
func (w *worker) publishTo(v *visitor, topic, event string) {
	m, text := w.compose(topic)
	path, header, body := "/sse?event="+event, http.Header{"Content-Type": {"application/json"}}, `{"message":"`+text+`"}`
	if topic != "" {
		path += "&topic=" + topic
	}
	if w.IntN(2) == 0 {
		header, body = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, url.Values{"message": {text}}.Encode()
	}
	before, first := 0, ""
	if w.IntN(2) == 0 {
		header.Set("Idempotency-Key", m.name)
		hurry, cancel := context.WithTimeout(context.Background(), w.upTo(5*time.Millisecond))
		before, first = v.ask(hurry, http.MethodPost, path, header, strings.NewReader(body))
		cancel()
	}
	status, answer := v.ask(context.Background(), http.MethodPost, path, header, strings.NewReader(body))
	if status != http.StatusAccepted || before != 0 && answer != first {
		w.t.Errorf("publish %s: status %d: %s; before that %d: %s", m.name, status, answer, before, first)
		return
	}
	w.accepted, w.latest = append(w.accepted, m), idOf(answer)
}

// idOf returns the id in the answer to a publisher.
func idOf(answer string) string {
	_, id, _ := strings.Cut(answer, `"id":"`)
	return strings.TrimSuffix(id, `"}`)
}

// numberOf returns the number in an id, or 0 if there is none.
func numberOf(id string) uint64 {
	number, _ := strconv.ParseUint(id[strings.Index(id, "-")+1:], 10, 64)
	return number
}

// publishLines sends a long request, and may break it off in the middle of a line.
func (w *worker) publishLines(v *visitor) {
	topic := pick(w, trafficTopics[1:]...)
	kind, begin, end := "text/plain", "", "\n"
	if w.IntN(2) == 0 {
		kind, begin, end = "application/x-ndjson", `{"message":"`, "\"}\n"
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
		parts = append(parts, strings.NewReader(begin+"half"), iotest.ErrReader(errors.New("broken off")))
	}
	status, answer := v.ask(context.Background(), http.MethodPost, "/sse?topic="+topic, http.Header{"Content-Type": {kind}}, io.MultiReader(parts...))
	switch {
	case !whole: // any of them may arrive
	case status != http.StatusAccepted || !strings.HasPrefix(answer, fmt.Sprintf(`{"events":%d,`, len(sent))):
		w.t.Errorf("%d lines to %s: status %d: %s", len(sent), topic, status, answer)
	default:
		w.accepted, w.latest = append(w.accepted, sent...), idOf(answer)
	}
}

// pausing is an empty part of a body that takes its time.
type pausing struct {
	*traffic
	time.Duration
}

func (p pausing) Read([]byte) (int, error) {
	p.pause(p.Duration)
	return 0, io.EOF
}

// endTopic follows a topic of its own, publishes to it and ends it.
func (w *worker) endTopic(v *visitor) {
	m, text := w.compose(fmt.Sprintf("ended/%d-%d", w.number, w.messages))
	path := "/sse?topic=" + m.topic
	stream, err := v.open(context.Background(), http.MethodGet, path, nil, nil)
	if err != nil {
		w.t.Error(err)
		return
	}
	defer stream.Body.Close()
	expect := func(want int, method, path string, header http.Header) (answer string) {
		status, answer := v.ask(context.Background(), method, path, header, strings.NewReader(text))
		if status != want {
			w.t.Errorf("%s %s: status %d, want %d: %s", method, path, status, want, answer)
		}
		return answer
	}
	plain := http.Header{"Content-Type": {"text/plain"}}
	answer := expect(http.StatusAccepted, http.MethodPost, path+"&end=true", plain)
	w.accepted = append(w.accepted, m)
	if all, err := io.ReadAll(stream.Body); err != nil || strings.Count(string(all), text) != 1 {
		w.t.Errorf("the stream of %s ended with %v after %.200q", path, err, all)
	}
	expect(http.StatusNoContent, http.MethodGet, path, http.Header{"Last-Event-Id": {idOf(answer)}})
	expect(http.StatusConflict, http.MethodPost, path, plain)
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

// mumble speaks HTTP/1.0, says nothing, or nothing that makes sense.
func (w *worker) mumble(v *visitor) {
	conn, err := v.connect()
	if err != nil {
		w.t.Error(err)
		return
	}
	const settings = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	_, _ = io.WriteString(conn, pick(w, "", "GET /sse HTTP/1.0\r\n\r\n", "GET /sse?topic=*&lastEventId=earliest HTTP/1.0\r\n\r\n", "GET /sse HT", "GET /sse HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
		"POST /sse HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+app.Token+"\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n\"half", "\x16\x03\x01\x00", settings, settings+"\xff", "\r\n\x00"))
	w.pause(w.upTo(2 * time.Second))
}

// stayer reads a stream well, and resumes it when it was cut off.
type stayer struct {
	*worker
	client *visitor
	topics []string
	until  string // the topic whose last message comes last
	lastID string
	last   atomic.Uint64 // number of lastID

	open, done     context.Context // end at the first block, and when it has everything or is gone
	isOpen, isDone context.CancelFunc

	places map[string]int // of the messages that came, by name
}

var errCut = errors.New("cut off")

func (r *stayer) stay() {
	defer r.isDone()
	defer r.isOpen()
	err := errCut
	for err == errCut {
		err = r.read()
	}
	select {
	case <-r.stopping:
	default:
		r.t.Errorf("the stream of %q ended before the server did", r.topics)
	}
	if err != nil {
		r.t.Errorf("the stream of %q ended with %v", r.topics, err)
	}
}

// read reads one stream to its end, or cuts it off at random.
func (r *stayer) read() error {
	path := "/sse"
	if r.topics[0] != "" {
		path += "?" + url.Values{"topic": r.topics}.Encode()
	}
	response, err := r.client.open(context.Background(), http.MethodGet, path, http.Header{"Last-Event-Id": {r.lastID}}, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	event, lines := map[string]string{}, bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		event[field] = value
		if lines.Text() == "" && event["id"] != "" { // ticks and comments have none
			if err := r.take(event["id"], event["event"], event["data"]); err != nil {
				return err
			}
			if r.ctx.Err() == nil && len(r.places) > 0 && r.IntN(50) == 0 {
				return errCut
			}
		}
		if lines.Text() == "" {
			clear(event)
		}
	}
	return lines.Err()
}

// take checks one event, and notes the place of a message.
func (r *stayer) take(id, event, data string) error {
	number := numberOf(id)
	before := r.last.Swap(number)
	r.lastID = id
	if data == "" || event == "position" { // where the stream begins, or a topic's end
		if r.places == nil {
			r.places = map[string]int{}
			r.isOpen()
		}
		return nil
	}
	var content struct{ Message string }
	err := json.Unmarshal([]byte(data), &content)
	name, filling, _ := strings.Cut(content.Message, "|")
	topic, _, _ := strings.Cut(name, " ")
	r.mu.Lock()
	sent := r.sent[name]
	r.mu.Unlock()
	if _, twice := r.places[name]; err != nil || number <= before || twice || !sent || !strings.HasSuffix(filling, ".") || !r.follows(topic) {
		return fmt.Errorf("unexpected event %q %s after %d: %.200s", event, id, before, data)
	}
	r.places[name] = len(r.places)
	if event == "last" && topic == r.until {
		r.isDone()
	}
	return nil
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
				r.t.Errorf("%q: %s came: %v; out of order: %v", r.topics, m.name, came, place < before)
			}
			before = place
		}
	}
}
