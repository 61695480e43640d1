// Package cluster tests the log in NATS against real NATS servers.
package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"gin-sse/internal/cluster"
	"gin-sse/internal/event"
	"gin-sse/internal/history"
	"gin-sse/internal/hub"
	"gin-sse/internal/testlog"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/natsserver"
	"gin-sse/test/internal/relay"
)

func TestMain(m *testing.M) {
	natsserver.RunIfAsked()
	goleak.VerifyTestMain(m,
		// The server's own, for the whole process.
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.init.0.func1"),
	)
}

// replica is one of the servers, without HTTP.
type replica struct {
	*cluster.Replica
	events *hub.Hub
	log    *testlog.Log
	stop   func()
}

// plain logs the message of each record as a line.
type plain struct {
	slog.Handler
	log *testlog.Log
}

func (plain) Enabled(context.Context, slog.Level) bool { return true }

func (p plain) Handle(_ context.Context, r slog.Record) error {
	_, err := fmt.Fprintln(p.log, r.Message)
	return err
}

func join(t testing.TB, url string, change ...func(*cluster.Config)) *replica {
	t.Helper()
	log := new(testlog.Log)
	cfg := cluster.Config{URL: url, Stream: "sse", Replicas: 1, History: 100_000, Linger: time.Minute, Log: slog.New(plain{slog.DiscardHandler, log})}
	for _, change := range change {
		change(&cfg)
	}
	events := hub.New(hub.Options{Limits: history.Limits{PerTopic: cfg.History, Bytes: 64 << 20}, Ahead: 100_000})
	r := cluster.New(cfg, events)
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() { r.Follow(ctx) })
	stop := sync.OnceFunc(func() {
		cancel()
		events.Close()
		following.Wait()
		r.Close()
	})
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("a replica said:\n%s", log)
		}
	})
	return &replica{r, events, log, stop}
}

func (r *replica) ready(t testing.TB) *replica {
	t.Helper()
	testwait.For(t, "a replica that is ready", func() bool { return r.Ready() == nil })
	return r
}

// publish sends to the default topic until the message is stored.
func (r *replica) publish(t testing.TB, key string, data any) string {
	t.Helper()
	return r.send(t, key, message("", data))
}

// message is one with that data.
func message(topic string, data any) event.Message {
	encoded, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	return event.Message{Topic: topic, Data: encoded}
}

// send sends until the message is stored.
func (r *replica) send(t testing.TB, key string, m event.Message) string {
	t.Helper()
	for deadline := time.Now().Add(testwait.Limit); ; {
		m.Key = key
		_, id, err := r.Publish(t.Context(), m)
		if err == nil {
			return id
		}
		if !errors.Is(err, cluster.ErrAway) || time.Now().After(deadline) {
			t.Errorf("publish: %v", err)
			return ""
		}
	}
}

// client reads a stream; it may go to another replica.
type client struct {
	*hub.Subscriber
	last string
	got  []string // events, with their names, without ticks
}

// client goes on after the message with the id last, in the default topic or those with these names.
func (r *replica) client(t testing.TB, last string, topics ...string) *client {
	t.Helper()
	set, err := event.ParseTopics(topics)
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.events.Subscribe(t.Context(), set, last)
	if err != nil {
		t.Fatal(err)
	}
	return &client{Subscriber: s, last: last}
}

// read takes what there is, and waits for something first.
func (c *client) read(ctx context.Context) error {
	frames, err := c.Next(ctx)
	if err != nil {
		return err
	}
	for event := range strings.SplitSeq(strings.TrimSuffix(string(frames), "\n\n"), "\n\n") {
		var lines []string
		last, position := "", strings.Contains(event, "event:position")
		for line := range strings.SplitSeq(event, "\n") {
			if id, is := strings.CutPrefix(line, "id:"); is {
				last = id
			} else if name, _, _ := strings.Cut(line, ":"); name == "event" || name == "data" {
				lines = append(lines, line)
			}
		}
		if last != "" && (!position || c.last == "") {
			c.last = last
		}
		if last != "" && !position { // neither a comment nor a tick
			c.got = append(c.got, strings.Join(lines, " "))
		}
	}
	return nil
}

// until reads until so many events came, and returns them.
func (c *client) until(t testing.TB, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	defer cancel()
	for len(c.got) < n {
		if err := c.read(ctx); err != nil {
			t.Fatalf("%v; it got %q, %d of %d", err, tail(c.got), len(c.got), n)
		}
	}
	return c.got
}

func tail(all []string) []string { return all[max(0, len(all)-5):] }

func want(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// direct is a NATS client that knows nothing of this package.
func direct(t testing.TB, url string) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

func TestMessageReachesEveryReplicaWithOneID(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	a, b := join(t, n.ClientURL()).ready(t), join(t, n.ClientURL()).ready(t)
	one, two := a.client(t, ""), b.client(t, "")
	_, first, err := a.Publish(t.Context(), event.Message{Name: "deploy.done", Data: json.RawMessage(`{"n":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	second := b.publish(t, "", 2)
	for _, c := range []*client{one, two} {
		want(t, c.until(t, 2), `event:deploy.done data:{"n":1}`, "data:2")
		if c.last != second || first == second {
			t.Errorf("the last id is %q after %q, want %q", c.last, first, second)
		}
	}
	want(t, b.client(t, first).until(t, 1), "data:2")
	c := join(t, n.ClientURL()).ready(t)
	want(t, c.client(t, first).until(t, 1), "data:2")
}

func TestKeyThatWasUsedStoresNothing(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	a, b := join(t, n.ClientURL()).ready(t), join(t, n.ClientURL()).ready(t)
	c := b.client(t, "")
	first := a.publish(t, "key", 1)
	if again := b.publish(t, "key", 1); again != first {
		t.Errorf("the id is %q, then %q", first, again)
	}
	a.publish(t, "other", 2)
	want(t, c.until(t, 2), "data:1", "data:2")
}

func TestWhateverPublishesToTheSubjectReachesSubscribersAndInjectsNothing(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	r := join(t, n.ClientURL()).ready(t)
	c := r.client(t, "")
	nc, _ := direct(t, n.ClientURL())
	for _, message := range []struct{ name, data string }{
		{"", `{"message":"hi"}`},
		{"deploy.done", ` [1,` + "\n" + ` 2] `},
		{"", "hello"},
		{"", ""},
		{"", "\xff\x00\r\ndata:forged\n\n"},
		{"", "\"\xff\""},
		{"gap", `1`},
		{"a\x00b", `2`},
		{strings.Repeat("x", 65), `3`},
		{"position", "a\n\nid:forged"},
	} {
		m := nats.NewMsg("sse")
		m.Data = []byte(message.data)
		if message.name != "" {
			m.Header.Set("Event", message.name)
		}
		if err := nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	// The client library refuses such a name, but the protocol accepts it.
	want(t, c.until(t, 10),
		`data:{"message":"hi"}`,
		`event:deploy.done data: [1,  2] `,
		`data:"hello"`,
		`data:""`,
		`data:"\ufffd\u0000\r\ndata:forged\n\n"`,
		`data:"\"\ufffd\""`,
		`data:1`, `data:2`, `data:3`,
		`data:"a\n\nid:forged"`)
	if n := len(r.log.Lines("is sent without its name")); n != 1 {
		t.Errorf("%d lines about names, want 1", n)
	}
}

func TestFreshReplicaHasTheLastMessagesOfTheStream(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	small := func(c *cluster.Config) { c.History = 5 }
	a := join(t, n.ClientURL(), small).ready(t)
	var ids []string
	for i := range 8 {
		ids = append(ids, a.publish(t, "", i+1))
	}
	b := join(t, n.ClientURL(), small).ready(t)
	want(t, b.client(t, ids[3]).until(t, 4), "data:5", "data:6", "data:7", "data:8")
	want(t, b.client(t, ids[2]).until(t, 5), "data:4", "data:5", "data:6", "data:7", "data:8")
	want(t, b.client(t, ids[0]).until(t, 7), "data:2", "data:3", "data:4", "data:5", "data:6", "data:7", "data:8") // the stream has two more
	want(t, b.client(t, "earliest").until(t, 6), `event:gap data:{}`, "data:4", "data:5", "data:6", "data:7", "data:8")
	want(t, b.client(t, "other-5").until(t, 6), `event:gap data:{}`, "data:4", "data:5", "data:6", "data:7", "data:8")
	fresh := b.client(t, "")
	a.publish(t, "", 9)
	want(t, fresh.until(t, 1), "data:9")
}

func TestMessageThatNATSDoesNotTakeIsTooLarge(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t, func(o *server.Options) { o.MaxPayload = 1000 })
	_, js := direct(t, n.ClientURL())
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "sse", Subjects: []string{"sse", "sse.>"}, MaxMsgSize: 500}); err != nil {
		t.Fatal(err)
	}
	r := join(t, n.ClientURL()).ready(t)
	for _, size := range []int{600, 2000} {
		if _, _, err := r.Publish(t.Context(), message("", strings.Repeat("x", size))); !errors.Is(err, event.ErrTooLarge) {
			t.Errorf("%d bytes: %v, want %v", size, err, event.ErrTooLarge)
		}
	}
}

func TestReplicaWithoutNATSAtTheStartCatchesUp(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	a := join(t, n.ClientURL()).ready(t)
	old := a.publish(t, "", "old")
	a.stop()
	n.Stop()

	b, c := join(t, n.ClientURL()), join(t, n.ClientURL())
	waiting, back, lost := b.client(t, ""), b.client(t, old), b.client(t, "other-1")
	if err := b.Ready(); err == nil {
		t.Error("it is ready without NATS")
	}
	if err := b.events.Tick("now"); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"retry:", "data:\"now\"\n\n"} {
		if frames, err := waiting.Next(t.Context()); err != nil || !strings.HasPrefix(string(frames), want) {
			t.Errorf("a client got %q and %v, want %s", frames, err, want)
		}
	}
	begin := time.Now()
	if _, _, err := b.Publish(t.Context(), message("", "lost")); !errors.Is(err, cluster.ErrAway) || time.Since(begin) > testwait.Limit {
		t.Errorf("without NATS: %v after %v", err, time.Since(begin))
	}
	n.Run(t)
	id := c.publish(t, "", "new") // b may not be there yet
	want(t, waiting.until(t, 1), `data:"new"`)
	want(t, back.until(t, 1), `data:"new"`)
	want(t, lost.until(t, 3), `event:gap data:{}`, `data:"old"`, `data:"new"`)
	b.ready(t)
	if waiting.last != id {
		t.Errorf("the last id is %q, want %q", waiting.last, id)
	}
	if n := len(b.log.Lines("NATS cannot be reached")); n != 1 {
		t.Errorf("%d lines tell that NATS is away, want 1", n)
	}
}

func TestRestartOfNATSLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	a := join(t, n.ClientURL()).ready(t)
	c := a.client(t, "")
	first := a.publish(t, "key", 1)
	c.until(t, 1)
	n.Stop()
	testwait.For(t, "a replica that is not ready", func() bool { return a.Ready() != nil })
	n.Run(t)
	if again := a.publish(t, "key", 1); again != first {
		t.Errorf("the id is %q, then %q", first, again)
	}
	a.publish(t, "", 2)
	a.ready(t)
	want(t, c.until(t, 2), "data:1", "data:2")
	b := join(t, n.ClientURL()).ready(t)
	want(t, b.client(t, first).until(t, 1), "data:2")
}

func TestDeletedStreamIsMadeAnewAndClientsAreToldOfAGap(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	a, b := join(t, n.ClientURL()).ready(t), join(t, n.ClientURL()).ready(t)
	one, two := a.client(t, ""), b.client(t, "")
	for i := range 5 {
		a.publish(t, "", i)
	}
	one.until(t, 5)
	two.until(t, 5)
	old := one.last
	_, js := direct(t, n.ClientURL())
	if err := js.DeleteStream(t.Context(), "sse"); err != nil {
		t.Fatal(err)
	}
	a.publish(t, "", "new")
	for _, c := range []*client{one, two} {
		want(t, c.until(t, 7)[5:], `event:gap data:{}`, `data:"new"`)
		if c.last == old {
			t.Errorf("the id is %q as before", c.last)
		}
	}
	if one.last != two.last {
		t.Errorf("ids differ: %q and %q", one.last, two.last)
	}
	want(t, b.client(t, old).until(t, 2), `event:gap data:{}`, `data:"new"`)
	if len(a.log.Lines("was deleted, and is made anew"))+len(b.log.Lines("was deleted, and is made anew")) == 0 {
		t.Error("the log does not tell that the stream was deleted")
	}
	a.ready(t)
	b.ready(t)
}

func TestPurgedStreamIsForgottenAndGoesOn(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	a := join(t, n.ClientURL()).ready(t)
	c := a.client(t, "")
	first := a.publish(t, "", 1)
	a.publish(t, "", 2)
	c.until(t, 2)
	_, js := direct(t, n.ClientURL())
	s, err := js.Stream(t.Context(), "sse")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	testwait.For(t, "a line about the purge", func() bool { return len(a.log.Lines("messages were removed from the stream")) == 1 })
	want(t, a.client(t, first).until(t, 1), `event:gap data:{}`)
	a.publish(t, "", 3)
	want(t, c.until(t, 3), "data:1", "data:2", "data:3")
	b := join(t, n.ClientURL()).ready(t)
	want(t, b.client(t, first).until(t, 2), `event:gap data:{}`, "data:3")
}

func TestServerThatNeverAnswersHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	url := "nats://" + l.Addr().String()
	begin := time.Now()
	r := join(t, url+","+url+","+url)
	if err := r.Ready(); err == nil {
		t.Error("it is ready")
	}
	r.stop()
	if took := time.Since(begin); took > testwait.Limit {
		t.Errorf("it took %v", took)
	}
}

// NATS has lost messages, as after a power cut or when an operator puts an older copy back.
func TestStreamThatLostMessagesGoesOn(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	r := join(t, n.ClientURL()).ready(t)
	c := r.client(t, "")
	r.publish(t, "", 1)
	n.Stop()
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(n.Options.StoreDir)); err != nil {
		t.Fatal(err)
	}
	n.Run(t)
	r.publish(t, "", 2)
	r.publish(t, "", 3)
	c.until(t, 3)
	n.Stop()
	n.Options.StoreDir = copied
	n.Run(t)
	r.publish(t, "", "other")
	want(t, c.until(t, 6), "data:1", "data:2", "data:3", `event:gap data:{}`, "data:1", `data:"other"`)
	r.ready(t)
	if len(r.log.Lines("has lost messages: it ends with number ")) != 1 {
		t.Error("the log does not tell")
	}
}

// The replica has only the permissions that docs/cluster.md lists.
func TestReplicaNeedsFewPermissions(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("../../docs/cluster.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(document), "permissions {")
	block, _, _ = strings.Cut(block, "\n    }")
	file := filepath.Join(t.TempDir(), "nats.conf")
	config := "accounts { A { jetstream: enabled, users: [{ user: app, password: secret, permissions {" + block + "} }, {user: admin, password: secret}] } }"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	users, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatalf("%v in %s", err, config)
	}
	n := natsserver.Start(t, func(o *server.Options) { o.Accounts, o.Users = users.Accounts, users.Users })
	host := fmt.Sprint("@127.0.0.1:", n.Options.Port)
	r := join(t, "nats://app:secret"+host).ready(t)
	c := r.client(t, "")
	r.publish(t, "", 1)
	want(t, c.until(t, 1), "data:1")
	_, js := direct(t, "nats://admin:secret"+host)
	if err := js.DeleteStream(t.Context(), "sse"); err != nil {
		t.Fatal(err)
	}
	r.publish(t, "", 2)
	want(t, c.until(t, 3)[1:], `event:gap data:{}`, "data:2")
	if len(r.log.Lines("ermissions")) > 0 {
		t.Errorf("it wants more:\n%s", r.log)
	}
}

func TestReplicaThatMayNotChangeTheStreamWorksWithoutBatches(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "nats.conf")
	config := `accounts { A { jetstream: enabled, users: [
		{user: app, password: secret, permissions { publish: {allow: ">", deny: ["$JS.API.STREAM.CREATE.>", "$JS.API.STREAM.UPDATE.>"]} } },
		{user: admin, password: secret}] } }`
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	users, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n := natsserver.Start(t, func(o *server.Options) { o.Accounts, o.Users = users.Accounts, users.Users })
	host := fmt.Sprint("@127.0.0.1:", n.Options.Port)
	_, js := direct(t, "nats://admin:secret"+host)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "sse", Subjects: []string{"sse", "sse.>"}, AllowDirect: true, AllowRollup: true,
		RePublish: &jetstream.RePublish{Source: ">", Destination: "sse-live.>"},
	}); err != nil {
		t.Fatal(err)
	}
	r := join(t, "nats://app:secret"+host).ready(t)
	c := r.client(t, "")
	r.publish(t, "", 1)
	r.publish(t, "", 2)
	want(t, c.until(t, 2), "data:1", "data:2")
	testwait.For(t, "a line about batches", func() bool { return len(r.log.Lines("takes no batches")) == 1 })
}

func TestNoPasswordIsLogged(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t, func(o *server.Options) { o.Username, o.Password = "user", "right-secret" })
	host := fmt.Sprint("127.0.0.1:", n.Options.Port)
	good := join(t, "nats://user:right-secret@"+host).ready(t)
	bad := join(t, "nats://user:wrong-secret@"+host)
	testwait.For(t, "a line about the password", func() bool { return len(bad.log.Lines("Authorization Violation")) > 0 })
	for _, r := range []*replica{good, bad} {
		if len(r.log.Lines("secret")) > 0 {
			t.Errorf("a password is in the log:\n%s", r.log)
		}
	}
	if bad.Ready() == nil {
		t.Error("it is ready")
	}
}

// The first attempt, whose failure says nothing of the password, may be any other failure of a busy machine.
func TestTheLogSaysThatNATSRefusesAPasswordAlsoIfItWasNotReachedAtFirst(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t, func(o *server.Options) { o.Username, o.Password = "user", "right" })
	between := relay.New(t, fmt.Sprint("127.0.0.1:", n.Options.Port))
	between.Block()
	r := join(t, "nats://user:wrong@"+between.Address)
	testwait.For(t, "a line about the first attempt", func() bool { return len(r.log.Lines("NATS cannot be reached")) > 0 })
	between.Restore()
	testwait.For(t, "a line about the password", func() bool { return len(r.log.Lines("NATS cannot be reached: Authorization Violation")) == 1 })
}

func TestStopIsQuickWhilePublishingWaits(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	r := join(t, n.ClientURL()).ready(t)
	n.Stop()
	var publishing sync.WaitGroup
	for range 10 {
		publishing.Go(func() {
			if _, _, err := r.Publish(context.Background(), message("", 1)); !errors.Is(err, cluster.ErrAway) && !errors.Is(err, event.ErrClosed) {
				t.Errorf("publish: %v", err)
			}
		})
	}
	begin := time.Now()
	r.stop()
	publishing.Wait()
	if took := time.Since(begin); took >= 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if _, _, err := r.Publish(context.Background(), message("", 1)); !errors.Is(err, event.ErrClosed) {
		t.Errorf("publish after the stop: %v, want %v", err, event.ErrClosed)
	}
}

func TestIdleReplicaAsksOnceInTwoSeconds(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	r := join(t, n.ClientURL()).ready(t)
	r.publish(t, "", 1)
	nc, _ := direct(t, n.ClientURL())
	requests, err := nc.SubscribeSync("$JS.API.>")
	if err != nil {
		t.Fatal(err)
	}
	var asked []time.Time
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	defer cancel()
	for len(asked) < 7 {
		m, err := requests.NextMsgWithContext(ctx)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s", m.Subject)
		asked = append(asked, time.Now())
	}
	// That is ten seconds, but on a busy machine the first one of them may be late.
	if took := asked[6].Sub(asked[1]); took < 5*time.Second {
		t.Errorf("six requests in %v", took)
	}
}
