//go:build linux

package main

import (
	"fmt"
	"log"
	"os"
	"strings"
	"testing"
	"time"

	"gin-sse/test/internal/app"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == loadCommand {
		main()
	}
	code := m.Run()
	if err := app.ForgetResult(); err != nil {
		log.Fatal(err)
	}
	os.Exit(code)
}

func TestSmallRunWithBothFaultsLosesNothingAndReportsIt(t *testing.T) {
	t.Parallel()
	s := settings{clients: 30, rate: 100, publishers: 10, lasts: 2 * time.Second, down: 200 * time.Millisecond}
	r, err := run(t.Context(), s, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	r.print(&text)
	t.Log(text.String())
	if err := r.verdict(); err != nil {
		t.Error(err)
	}
	if r.loads.Delivered != r.expected() || r.expected() == 0 {
		t.Errorf("%d messages were delivered, want %d, and some", r.loads.Delivered, r.expected())
	}
	if back := r.loads.Back.count(); back < int64(s.clients/3) {
		t.Errorf("%d clients came back, want at least those of the killed replica", back)
	}
	if _, err := os.Stat(r.cluster.dir); !os.IsNotExist(err) {
		t.Errorf("what NATS stored is still there: %v", err)
	}
	for _, p := range r.cluster.processes() {
		if p.cmd != nil {
			t.Errorf("%s still runs", p.name)
		}
	}
}

// A run that finds nothing wrong means something only if a client notices what is wrong.
func TestClientNoticesEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	frame := func(id string, m message) string { return fmt.Sprintf("id:%s\ndata:%s\n\n", id, m.data()) }
	at := time.Now()
	own := func(id string, number int) string { return frame(id, message{7, number, at}) }
	news := func(id string, number int) string { return frame(id, message{everybody, number, at}) }
	const position = "retry:2000\nid:a-5\nevent:position\ndata:{}\n\n"
	for _, test := range []struct {
		name, stream string
		want         Outcome
	}{
		{"nothing", position + own("a-6", 1) + ":\n\n" + news("a-8", 1) + own("a-9", 2), Outcome{Delivered: 3}},
		{"lost", position + own("a-6", 1) + own("a-7", 4), Outcome{Delivered: 2, Lost: 2}},
		{"lost at the beginning", position + news("a-6", 2), Outcome{Delivered: 1, Lost: 1}},
		{"twice", position + own("a-6", 1) + own("a-6", 1), Outcome{Delivered: 1, Doubled: 1}},
		{"twice with another id", position + own("a-6", 1) + own("a-7", 1), Outcome{Delivered: 1, Doubled: 1}},
		{"out of order", position + news("a-7", 1) + own("a-6", 1), Outcome{Delivered: 2, Disordered: 1}},
		{"before the stream's position", position + own("a-5", 1), Outcome{Delivered: 1, Disordered: 1}},
		{"gap", position + "id:a-6\nevent:gap\ndata:{\"missed\":1}\n\n" + own("a-7", 1), Outcome{Delivered: 1, Gaps: 1}},
		{"epoch", position + own("b-1", 1), Outcome{Delivered: 1, Epochs: 1}},
		{"another client's", position + frame("a-6", message{8, 1, at}), Outcome{Wrong: 1}},
		{"no message", position + "id:a-6\ndata:1\n\n", Outcome{Wrong: 1}},
		{"no id", position + "data:[7,1,0]\n\n", Outcome{Wrong: 1}},
		{"a name", position + "id:a-6\nevent:tick\ndata:[7,1,0]\n\n", Outcome{Wrong: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := &client{crowd: new(crowd), user: 7, streams: 1}
			is := newPlan(settings{lasts: time.Minute}, at)
			c.plan.Store(&is)
			c.read(strings.NewReader(test.stream))
			if c.Outcome != test.want {
				t.Errorf("%+v, want %+v", c.Outcome, test.want)
			}
			if c.retry != 2*time.Second {
				t.Errorf("it would come back after %v, want 2 s", c.retry)
			}
		})
	}
}

func TestQuantilesAreWithinOnePerCent(t *testing.T) {
	t.Parallel()
	var h, other histogram
	for ms := range 1000 {
		h.add(time.Duration(ms+1) * time.Millisecond)
	}
	other.merge(&h)
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: time.Second} {
		if got := other.quantile(q); got < want || got > want*101/100 {
			t.Errorf("the quantile %v is %v, want %v", q, got, want)
		}
	}
	if got := new(histogram).quantile(0.5); got != 0 {
		t.Errorf("the quantile of nothing is %v", got)
	}
}
