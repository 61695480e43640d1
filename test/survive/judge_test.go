package survive

import (
	"slices"
	"strings"
)

// judge compares what a client got with what was promised. With gaps, a scenario says when clients are told of one.
//
// Nothing is lost without a word: a message that was promised comes with its id. If it does not, a gap comes where it should
// have stood, or a gap begins a later epoch. Nothing is doubled: numbers rise within an epoch, and no message comes in it
// twice. No id is reused: it belongs to one message, and an epoch that is over does not come back.
func (c *client) judge(gaps string) {
	t := c.w
	t.Helper()
	promised := t.promised(c.topic)
	complaints := 0
	complain := func(format string, args ...any) {
		t.Helper()
		if complaints++; complaints <= 3 {
			t.Errorf("client %q: "+format, append([]any{c.name}, args...)...)
		}
	}
	defer func() {
		if complaints > 0 {
			t.Logf("%d complaints; client %q got %v\nof %v", complaints, c.name, c.got, promised)
		}
	}()

	if len(c.got) == 0 {
		complain("it got nothing")
		return
	}
	var epochs []string
	had := map[string]bool{} // of this epoch
	last := uint64(0)
	told := 0
	for _, d := range c.got {
		if len(epochs) == 0 || d.epoch != epochs[len(epochs)-1] {
			if len(epochs) > 0 && d.data != "" {
				complain("%v begins an epoch without a gap", d)
			}
			if slices.Contains(epochs, d.epoch) {
				complain("%v is of an epoch that was over", d)
			}
			epochs, last = append(epochs, d.epoch), 0
			clear(had)
		}
		switch {
		case d.data == "":
			told++
		case d.number <= last, had[d.data] && d.isOurs():
			complain("%v comes once more", d)
		}
		if d.number < last {
			complain("%v comes after number %d", d, last)
		}
		had[d.data], last = true, d.number
	}

	ids := map[delivery]string{}
	for _, p := range promised {
		id := delivery{epoch: p.epoch, number: p.number}
		if data, used := ids[id]; used && data != p.data {
			complain("%v has the id of %q", p, data)
		}
		ids[id] = p.data
		i := slices.IndexFunc(c.got, func(d delivery) bool { return d.epoch == p.epoch && d.number >= p.number })
		switch {
		case i < 0 && p.epoch == epochs[len(epochs)-1]:
			complain("%v is missing at the end", p)
		case i < 0: // a later epoch began with a gap
		case c.got[i].data == "": // it was told
		case c.got[i].number > p.number || c.got[i].data != p.data:
			complain("%v is missing without a gap, and %v came", p, c.got[i])
		}
	}
	if gaps == never && told > 0 || (gaps == always || gaps == c.name) && told == 0 {
		complain("it was told of %d gaps, want one: %s", told, gaps)
	}
}

// calm fails the test if a replica's log is that of one which starts its work again and again.
func (w *world) calm() {
	w.Helper()
	for i, r := range w.replicas {
		if lines := strings.Count(r.Out.String(), "NATS"); lines > 40 {
			w.Errorf("replica %d logged %d lines about NATS", i, lines)
		}
	}
}
