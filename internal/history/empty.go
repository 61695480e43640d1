package history

import (
	"github.com/google/btree"

	"gin-sse/internal/event"
)

const (
	emptyCost  = 112      // bytes that a topic without messages takes beside its name
	emptyBytes = 16 << 20 // that all of them may take: more than 100,000 fit
)

// emptied remembers topics that have no messages, but lost some or have ended. They are counted apart from the
// messages, so that they can never push one out.
type emptied struct {
	topics    *btree.BTreeG[emptyTopic] // by name
	queue     []emptyTopic              // in the order in which they lost their last message, with some that have changed since
	bytes     int64
	room      int64  // for how many
	forgotten uint64 // topics that are not here may have lost messages up to this number
}

type emptyTopic struct {
	name string
	past
}

func newEmptied(forgotten uint64) emptied {
	byName := func(a, b emptyTopic) bool { return a.name < b.name }
	return emptied{topics: btree.NewG(degree, byName), room: emptyBytes, forgotten: forgotten}
}

// past returns what is known of a topic that has no messages, or what must be assumed of it.
func (e *emptied) past(name string) past {
	if t, found := e.topics.Get(emptyTopic{name: name}); found {
		return t.past
	}
	return past{lost: e.forgotten, assumed: e.forgotten > 0}
}

// below calls do for the topics that a wildcard matches, until it returns false in each of the ranges of the pattern.
func (e *emptied) below(pattern event.Pattern, do func(emptyTopic) (more bool)) {
	for first, end := range pattern.Ranges() {
		e.topics.AscendGreaterOrEqual(emptyTopic{name: first}, func(t emptyTopic) bool {
			return (end == "" || t.name < end) && do(t)
		})
	}
}

func (e *emptied) remove(name string) {
	if t, found := e.topics.Delete(emptyTopic{name: name}); found {
		e.bytes -= emptyCost + int64(len(t.name))
	}
}

// remember remembers a topic that has no messages. If there is no room left, it forgets those that lost their last message
// first, except topics that are read: a reader must not be told of a gap that may be none.
func (h *History) remember(name string, p past) {
	e := &h.empty
	e.remove(name)
	h.record.change(name)
	if p.ended == 0 && (p.assumed || p.lost == 0) {
		return // nothing to remember
	}
	t := emptyTopic{name, p}
	e.topics.ReplaceOrInsert(t)
	e.bytes += emptyCost + int64(len(name))
	e.queue = append(e.queue, t)
	for range 2 { // one more than was added, so that the queue does not grow
		if e.bytes <= e.room && len(e.queue) <= e.topics.Len() {
			return
		}
		first := e.queue[0]
		e.queue[0], e.queue = emptyTopic{}, e.queue[1:]
		switch now, found := e.topics.Get(first); {
		case !found || now.past != first.past: // it is not empty any longer, or stands further behind
		case e.bytes <= e.room || h.keep(first.name):
			e.queue = append(e.queue, first)
		default:
			e.remove(first.name)
			e.forgotten = max(e.forgotten, first.lost)
			h.record.change(first.name)
		}
	}
}
