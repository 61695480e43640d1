package replicas

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tmaxmax/go-sse"

	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/app"
	"gin-sse/test/internal/child"
	"gin-sse/test/internal/replica"
)

// page follows private/a at one replica after the other, as a page does that asks its application for a new token when
// the one that it has is refused.
type page struct {
	got     []string
	streams int
	refused int    // most often in a row
	begun   func() // it has a stream
}

func (p *page) follow(ctx context.Context, replicas []*app.Server, issue func() (string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 4*testwait.Limit)
	defer cancel()
	token, err := issue()
	if err != nil {
		return err
	}
	last, refused := "earliest", 0
	var problem error
	for turn := 0; ctx.Err() == nil; turn++ {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, replicas[turn%len(replicas)].URL+"/sse?topic=private/a", nil)
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Last-Event-ID", last)
		response, err := http.DefaultClient.Do(request)
		switch {
		case err != nil:
			problem = err
		case response.StatusCode == http.StatusUnauthorized:
			response.Body.Close()
			refused++
			p.refused = max(p.refused, refused)
			if token, err = issue(); err != nil {
				return err
			}
		case response.StatusCode != http.StatusOK:
			response.Body.Close()
			problem = fmt.Errorf("answered with %s", response.Status)
		default:
			p.begun()
			p.streams, refused = p.streams+1, 0
			for e, err := range sse.Read(response.Body, nil) {
				if err != nil {
					problem = err // on a busy machine it may have read too slowly
					break
				}
				if last = e.LastEventID; testsse.IsPosition(e) {
					continue
				}
				if p.got = append(p.got, e.Data); e.Data == `"end"` {
					response.Body.Close()
					return nil
				}
			}
			response.Body.Close()
		}
		<-time.After(10 * time.Millisecond) // a browser waits longer before it comes back
	}
	return fmt.Errorf("%w after %w", ctx.Err(), problem)
}

// publishOnce publishes to private/a, and tries again while NATS is too busy.
func publishOnce(ctx context.Context, a *app.Server, key, data string) (err error) {
	for range 20 {
		response, problem := app.PostTo(ctx, a.URL+"/sse?topic=private/a", key, data)
		if problem != nil {
			return problem
		}
		response.Body.Close()
		if response.StatusCode == http.StatusAccepted {
			return nil
		}
		err = fmt.Errorf("publish %s: %s", data, response.Status)
	}
	return err
}

func TestTheKeyIsChangedAsTheDocumentationSaysWhilePagesAreOpen(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(app.Root(), "docs", "private-topics.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## Change the key\n")
	section, _, _ = strings.Cut(section, "\n## ")
	steps := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1)
	if !found || len(steps) != 3 {
		t.Fatalf("the documentation has %d steps, want 3", len(steps))
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "subscribe.key")
	if err := os.WriteFile(file, []byte(strings.Repeat("0123456789abcdef", 4)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := replica.NATS(t)
	setting := "SUBSCRIBE_KEY_FILE=" + file
	replicas := []*app.Server{replica.Start(t, n, setting).Ready(), replica.Start(t, n, setting).Ready()}
	issue := func() (string, error) {
		cmd := app.Command(t, setting)
		cmd.Args = append(cmd.Args, "token", "private/a")
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	}
	old, err := issue()
	if err != nil {
		t.Fatal(err)
	}

	const clients = 10
	pages := make([]page, clients)
	var following, begun sync.WaitGroup
	t.Cleanup(following.Wait) // also after a failure
	for i := range pages {
		begun.Add(1)
		pages[i].begun = sync.OnceFunc(begun.Done)
		following.Go(func() {
			defer pages[i].begun()
			if err := pages[i].follow(t.Context(), replicas, issue); err != nil {
				t.Errorf("page %d: %v", i, err)
			}
		})
	}
	begun.Wait()
	published := 0
	publish := func(data string) error {
		err := publishOnce(t.Context(), replicas[published%2], fmt.Sprint("key ", published), data)
		published++
		return err
	}
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := publish(fmt.Sprint(published)); err != nil {
				stopped <- err
				return
			}
		}
	}()
	for i, step := range steps {
		cmd := child.Command(t.Context(), "sh", "-e", "-c", step[1])
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("step %d: %v\n%s", i+1, err, out)
		}
		for _, a := range replicas {
			a.Out.WaitFor(t, `msg="SUBSCRIBE_KEY_FILE: read again"`, i+1, testwait.Limit)
		}
	}
	close(stop)
	if err := errors.Join(<-stopped, publish(`"end"`)); err != nil {
		t.Fatal(err)
	}
	following.Wait()
	for i, p := range pages {
		if len(p.got) != published || p.streams < 2 || p.refused > 1 {
			t.Errorf("page %d got %d of %d messages over %d streams, and was refused %d times in a row", i, len(p.got), published, p.streams, p.refused)
		}
		for n, data := range p.got[:max(0, len(p.got)-1)] {
			if data != fmt.Sprint(n) {
				t.Fatalf("page %d: message %d is %s", i, n, data)
			}
		}
	}
	for _, a := range replicas {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL+"/sse?topic=private/a", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+old)
		response, err := app.Client(t).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusUnauthorized {
			t.Errorf("a token of the key before is answered with %s", response.Status)
		}
	}
}
