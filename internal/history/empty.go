package history

import "github.com/google/btree"

const (
	emptyCost  = 184      // bytes that a topic without messages takes beside its name
	emptyBytes = 20 << 20 // that all of them may take: 100,000 fit, unless their names are long
)

// emptied remembers topics that have no messages, but lost some or have ended. They are counted apart from the
// messages, so that they can never push one out.
type emptied struct {
	topics    *btree.BTreeG[*topic] // by name
	queue     []*topic              // in the order in which they lost their last message, with some that are not here any more
	bytes     int64
	room      int64  // for how many
	forgotten uint64 // topics that are not here may have lost messages up to this number
}

func (e *emptied) remove(t *topic) {
	if _, found := e.topics.Delete(t); found {
		e.bytes -= emptyCost + int64(len(t.name))
	}
}

// remember remembers a topic that has no messages. If there is no room left, it forgets the topics that have been without
// messages for longest, except those that are read: a reader must not be told of a gap that may be none.
func (h *History) remember(t *topic) {
	e := &h.empty
	if t.ended == 0 && t.lost == 0 { // nothing to remember
		h.forget(t)
		return
	}
	if _, found := e.topics.ReplaceOrInsert(t); !found {
		e.bytes += emptyCost + int64(len(t.name))
	}
	e.queue = append(e.queue, t)
	t.queued++
	for range 2 { // one more than was added, so that the queue does not grow
		if e.bytes <= e.room && len(e.queue) <= e.topics.Len() {
			return
		}
		first := e.queue[0]
		e.queue[0], e.queue = nil, e.queue[1:]
		switch first.queued--; {
		case first.queued > 0 || len(first.messages) > 0 || h.topics[first.name] != first: // it stands further behind, or is not empty any longer
		case e.bytes <= e.room || h.keep(first.name):
			e.queue = append(e.queue, first)
			first.queued++
		default:
			h.forget(first)
			e.forgotten = max(e.forgotten, first.lost)
		}
	}
}

// forget forgets what is known of a topic that has no messages.
func (h *History) forget(t *topic) {
	h.empty.remove(t)
	delete(h.topics, t.name)
	h.record.change(t.name)
}
