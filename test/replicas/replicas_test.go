package replicas

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/tmaxmax/go-sse"

	"gin-sse/internal/testcert"
	"gin-sse/internal/testcrowd"
	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
	"gin-sse/internal/token"
	"gin-sse/test/internal/app"
	"gin-sse/test/internal/natsserver"
	"gin-sse/test/internal/npm"
	"gin-sse/test/internal/proxy"
	"gin-sse/test/internal/relay"
	"gin-sse/test/internal/replica"
)

func TestReplicaWithoutNATSSaysSoAndCatchesUp(t *testing.T) {
	t.Parallel()
	n := replica.NATS(t)
	n.Stop()
	a := replica.Start(t, n, "TICK_INTERVAL=20ms")
	stream := a.Get("/sse").Body
	testsse.ReadUntil(t, stream, "Server Time: ")
	if body := a.AwaitStatus("/healthz", http.StatusOK); !strings.Contains(body, `"degraded"`) || !strings.Contains(body, "NATS") {
		t.Errorf("/healthz says %s", body)
	}
	a.AwaitStatus("/readyz", http.StatusServiceUnavailable)
	if out, code := app.Fails(t, []string{"PORT=" + a.Port}, "healthcheck", "ready"); code != 1 || !strings.Contains(out, "503") {
		t.Errorf("the check for readiness exits with %d and says %q", code, out)
	}
	begin := time.Now()
	response, err := app.Post(t.Context(), a.URL, "key", `"early"`)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" || time.Since(begin) > testwait.Limit {
		t.Errorf("POST has status %d and Retry-After %q after %v", response.StatusCode, response.Header.Get("Retry-After"), time.Since(begin))
	}
	n.Run(t)
	a.Ready()
	a.Publish(`"late"`)
	testsse.ReadUntil(t, stream, `data:"late"`)
	if body := a.AwaitStatus("/healthz", http.StatusOK); body != `{"status":"ok"}` {
		t.Errorf("/healthz says %s", body)
	}

	n.Stop() // NATS is away again, and a publisher waits when the server stops
	a.AwaitStatus("/readyz", http.StatusServiceUnavailable)
	testsse.ReadUntil(t, stream, "Server Time: ")
	waiting := make(chan error, 1)
	go func() {
		response, err := app.Post(t.Context(), a.URL, "key", `1`)
		if err == nil {
			response.Body.Close()
		}
		waiting <- err
	}()
	begin = time.Now()
	if code := a.Stop(syscall.SIGTERM); code != 0 || time.Since(begin) >= 5*time.Second {
		t.Errorf("exit status %d after %v", code, time.Since(begin))
	}
	<-waiting
	if out := a.Out.String(); strings.Contains(out, "secret") {
		t.Errorf("a password is in the log:\n%s", out)
	}
}

// These are sent in the tests below.
const (
	publishers = 16
	messages   = 128
)

// end is the data of the message after all others.
const end = `"end"`

// publishAll sends with 16 publishers, each message until it is answered 202: half of them before during,
// 50 a second while that runs, and the rest afterwards. It returns how many each sent.
func publishAll(t *testing.T, replicas []string, during func()) []int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	defer cancel()
	var again atomic.Int64
	send := func(to int, key, body string) bool {
		for ; ctx.Err() == nil; to++ {
			response, err := app.Post(ctx, replicas[to%len(replicas)], key, body)
			if err == nil {
				_, _ = io.Copy(io.Discard, response.Body) // so that the connection is used again
				response.Body.Close()
				if response.StatusCode == http.StatusAccepted {
					return true
				}
			}
			again.Add(1)
		}
		t.Errorf("%s was not taken", body)
		return false
	}
	sent := make([]int, publishers)
	over := make(chan struct{})
	var sending, begun sync.WaitGroup
	begun.Add(publishers)
	for p := range publishers {
		sending.Go(func() {
			next := func() bool {
				n := sent[p]
				sent[p]++
				return send(p, fmt.Sprint(p, "-", n), fmt.Sprintf("[%d,%d]", p, n))
			}
			for range messages / 2 {
				next()
			}
			begun.Done()
			pace := time.NewTicker(20 * time.Millisecond) // as there are other tests
			defer pace.Stop()
			for more := true; more; {
				select {
				case <-over:
					more = false
				case <-pace.C:
					more = next()
				}
			}
			for range messages / 2 {
				next()
			}
		})
	}
	begun.Wait()
	during()
	close(over)
	sending.Wait()
	send(0, "end", end)
	t.Logf("%d messages, of which %d were sent again", sum(sent), again.Load())
	return sent
}

func sum(all []int) (n int) {
	for _, one := range all {
		n += one
	}
	return n
}

// complete checks that the messages are all there, once, each publisher's in its order.
func complete(t *testing.T, got []string, sent []int) {
	t.Helper()
	next := make([]int, publishers)
	for _, data := range got {
		var p, n int
		if data == end {
			continue
		}
		if _, err := fmt.Sscanf(data, "[%d,%d]", &p, &n); err != nil || n != next[p] {
			t.Fatalf("%q, want number %d of publisher %d", data, next[p], p)
		}
		next[p]++
	}
	if !slices.Equal(next, sent) {
		t.Errorf("messages of the publishers: %d, want %d", next, sent)
	}
}

// wander reads all messages, and goes to another replica every now and then.
func wander(t *testing.T, replicas []string, last string) (got []string) {
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	defer cancel()
	for len(got) == 0 || got[len(got)-1] != end {
		if ctx.Err() != nil {
			t.Errorf("it got %d messages", len(got))
			return got
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, replicas[rand.IntN(len(replicas))]+"/sse", nil)
		if err != nil {
			t.Error(err)
			return got
		}
		request.Header.Set("Last-Event-ID", last)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			continue // that replica is being restarted
		}
		enough := rand.IntN(100)
		for event, err := range sse.Read(response.Body, nil) {
			if err != nil {
				break
			}
			if event.LastEventID != "" {
				last = event.LastEventID
			}
			if event.Type == "gap" {
				t.Errorf("it was told of a gap: %s", event.Data)
			}
			if event.Type == "" {
				got = append(got, event.Data)
				if enough--; enough < 0 || event.Data == end {
					break
				}
			}
		}
		response.Body.Close()
	}
	return got
}

func TestClientsThatMoveBetweenReplicasGetAllOnceWhileEverythingIsRestarted(t *testing.T) {
	t.Parallel()
	n := replica.NATS(t)
	a, b := replica.Start(t, n).Ready(), replica.Start(t, n).Ready()
	replicas := []string{a.URL, b.URL}
	position := testsse.ReadFirst(t, a.Get("/sse").Body)

	got := make([][]string, 8)
	var reading sync.WaitGroup
	for i := range got {
		reading.Go(func() { got[i] = wander(t, replicas, position) })
	}
	sent := publishAll(t, replicas, func() {
		for _, old := range []*app.Server{a, b} { // a rolling restart
			if code := old.Stop(syscall.SIGTERM); code != 0 {
				t.Errorf("exit status %d; it said:\n%s", code, old.Out.String())
			}
			replica.Start(t, n, "PORT="+old.Port).Ready()
		}
		n.Stop()
		n.Run(t)
	})
	reading.Wait()
	complete(t, got[0], sent)
	for i := range got {
		if !slices.Equal(got[i], got[0]) {
			t.Errorf("client %d saw something else than client 0", i)
		}
	}
}

func TestNpmClientThatMovesBetweenReplicasGetsAllOnce(t *testing.T) {
	t.Parallel()
	npm.Install(t)
	n := replica.NATS(t)
	a, b := replica.Start(t, n).Ready(), replica.Start(t, n).Ready()
	front := relay.New(t, "127.0.0.1:"+a.Port, "127.0.0.1:"+b.Port)
	out := npm.EventSource(t, front.URL()+"/sse")
	out.Wait(t, "open")
	sent := publishAll(t, []string{a.URL, b.URL}, func() {
		for n := range 3 {
			front.Cut()
			out.WaitFor(t, "message ", (n+1)*publishers*messages/4, testwait.Limit)
		}
	})
	out.WaitFor(t, end, 1, testwait.Limit)
	var got []string
	for _, line := range npm.Printed(out, "message ") {
		_, data, _ := strings.Cut(strings.TrimPrefix(line, "message "), " ")
		got = append(got, data)
	}
	complete(t, got, sent)
	if gaps := npm.Printed(out, "gap "); len(gaps) > 0 {
		t.Errorf("it was told of %q", gaps)
	}
}

// One replica after the other is replaced, behind the load balancer of compose.yaml.
func TestRollingRestartBehindTheLoadBalancerDropsNothing(t *testing.T) {
	t.Parallel()
	n := replica.NATS(t)
	balancer := proxy.HAProxy
	balancer.Config, balancer.Listen = "haproxy-replicas.cfg", []string{"bind :3000\n", "bind %s\n"}
	balancer.Swap = [][2]string{{"resolvers docker init-addr none", ""}} // there is no Docker here
	var replicas []*app.Server
	for i := range 3 {
		a := replica.Start(t, n).Ready()
		replicas = append(replicas, a)
		balancer.Swap = append(balancer.Swap, [2]string{fmt.Sprintf("app%d:3000", i+1), "127.0.0.1:" + a.Port})
	}
	front := strings.TrimSuffix(balancer.Start(t, ""), "/sse")
	stream := (&app.Server{T: t, URL: front}).Get("/sse").Body
	position := testsse.ReadFirst(t, stream)

	got := make([][]string, 4)
	var reading sync.WaitGroup
	for i := range got {
		reading.Go(func() { got[i] = wander(t, []string{front}, position) })
	}
	sent := publishAll(t, []string{front}, func() {
		for _, old := range replicas {
			if code := old.Stop(syscall.SIGTERM); code != 0 {
				t.Errorf("exit status %d; it said:\n%s", code, old.Out.String())
			}
			replica.Start(t, n, "PORT="+old.Port).Ready()
		}
	})
	reading.Wait()
	complete(t, got[0], sent)
	for i := range got {
		if !slices.Equal(got[i], got[0]) {
			t.Errorf("client %d saw something else than client 0", i)
		}
	}
}

func TestNATSOfTheCompositionHasAUsableConfiguration(t *testing.T) {
	t.Setenv("HOSTNAME", "nats1")
	t.Setenv("NATS_PASSWORD", `"1e57a"`) // as compose.yaml has it
	options, err := server.ProcessConfigFile("../../docs/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	if options.ServerName != "nats1" || !options.JetStream || !options.SyncAlways || options.StoreDir != "/data" || len(options.Routes) != 3 || options.HTTPPort != 8222 || options.Username != "gin-sse" || options.Password != "1e57a" {
		t.Errorf("it is understood as %+v", options)
	}
}

func TestPublishedAgainWithItsKeyIsSentOnce(t *testing.T) {
	t.Parallel()
	n := replica.NATS(t)
	alone := app.Start(t, "PUBLISH_TOKEN="+app.Token, "TICK_INTERVAL=0")
	for name, replicas := range map[string][]*app.Server{
		"alone": {alone, alone},
		"two":   {replica.Start(t, n).Ready(), replica.Start(t, n).Ready()},
	} {
		stream := replicas[1].Get("/sse").Body
		testsse.ReadFirst(t, stream)
		var ids []string
		for _, to := range replicas {
			response, err := app.Post(t.Context(), to.URL, "one key", `"once"`)
			if err != nil {
				t.Fatal(err)
			}
			var answer struct{ ID string }
			err = errors.Join(json.NewDecoder(response.Body).Decode(&answer), response.Body.Close())
			if err != nil || response.StatusCode != http.StatusAccepted || answer.ID == "" {
				t.Errorf("%s: status %d and %v", name, response.StatusCode, err)
			}
			ids = append(ids, answer.ID)
		}
		if ids[0] != ids[1] {
			t.Errorf("%s: ids %q", name, ids)
		}
		replicas[0].Publish(`"end"`)
		if got := testsse.ReadUntil(t, stream, `"end"`); strings.Count(got, `"once"`) != 1 {
			t.Errorf("%s: the stream has %q", name, got)
		}
	}
}

func TestReplicaSpeaksTLSAndHasCredentials(t *testing.T) {
	t.Parallel()
	operator, system := keys(t, nkeys.CreateOperator), keys(t, nkeys.CreateAccount)
	account, user := keys(t, nkeys.CreateAccount), keys(t, nkeys.CreateUser)
	accountClaims := jwt.NewAccountClaims(public(t, account))
	accountClaims.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: -1, MemoryStorage: -1, Streams: -1, Consumer: -1}
	accountJWT, err := accountClaims.Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	systemJWT, err := jwt.NewAccountClaims(public(t, system)).Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	operatorClaims := jwt.NewOperatorClaims(public(t, operator))
	if _, err := operatorClaims.Encode(operator); err != nil {
		t.Fatal(err)
	}
	userJWT, err := jwt.NewUserClaims(public(t, user)).Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	credentials, err := jwt.FormatUserConfig(userJWT, seed)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "user.creds")
	if err := os.WriteFile(file, credentials, 0o600); err != nil {
		t.Fatal(err)
	}

	cert, key, _ := testcert.Write(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	resolver := &server.MemAccResolver{}
	if err := errors.Join(resolver.Store(public(t, account), accountJWT), resolver.Store(public(t, system), systemJWT)); err != nil {
		t.Fatal(err)
	}
	n := natsserver.Start(t, func(o *server.Options) {
		o.TrustedOperators, o.AccountResolver, o.SystemAccount = []*jwt.OperatorClaims{operatorClaims}, resolver, public(t, system)
		o.TLS, o.TLSTimeout = true, 10
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	})

	env := []string{"PUBLISH_TOKEN=" + app.Token, "TICK_INTERVAL=0", fmt.Sprint("NATS_URL=tls://localhost:", n.Options.Port)}
	a := app.Start(t, append(env, "NATS_CREDS="+file, "SSL_CERT_FILE="+cert)...).Ready()
	stream := a.Get("/sse").Body
	testsse.ReadFirst(t, stream)
	a.Publish(`"secure"`)
	testsse.ReadUntil(t, stream, `"secure"`)

	distrusting := app.Start(t, append(env, "NATS_CREDS="+file)...)
	distrusting.Out.Wait(t, "NATS cannot be reached: tls error: tls: failed to verify certificate")
	stranger := app.Start(t, append(env, "SSL_CERT_FILE="+cert)...)
	stranger.Out.Wait(t, "Authorization Violation")
	for _, a := range []*app.Server{distrusting, stranger} {
		a.AwaitStatus("/readyz", http.StatusServiceUnavailable)
	}
}

func keys(t *testing.T, create func() (nkeys.KeyPair, error)) nkeys.KeyPair {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func public(t *testing.T, pair nkeys.KeyPair) string {
	t.Helper()
	key, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestRandomClientsOfTwoReplicasGetAllThatTheyMayReadInOrderAndNothingElse(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*http.Protocols, bool){"HTTP1": (*http.Protocols).SetHTTP1, "HTTP2": (*http.Protocols).SetUnencryptedHTTP2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transport := &http.Transport{Protocols: new(http.Protocols)}
			set(transport.Protocols, true)
			t.Cleanup(transport.CloseIdleConnections)
			n := replica.NATS(t)
			var replicas []testcrowd.Replica
			for range 2 {
				a := replica.Start(t, n, "SUBSCRIBE_KEY="+app.SubscribeKey).Ready()
				replicas = append(replicas, testcrowd.Replica{URL: a.URL, Client: &http.Client{Transport: transport}})
			}
			issue := func(topics ...string) http.Header {
				text, err := token.Issue([]byte(app.SubscribeKey), topics, "", time.Hour)
				if err != nil {
					t.Fatal(err)
				}
				if len(topics) > 1 {
					return http.Header{"Cookie": {"access_token=" + text}}
				}
				return http.Header{"Authorization": {"Bearer " + text}}
			}
			testcrowd.FollowTopics(t, app.Token, issue, replicas...)
		})
	}
}
