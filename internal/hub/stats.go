package hub

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Stats are figures of a hub.
type Stats struct {
	Subscribers int64  // now
	Delivered   uint64 // events handed over so far; an event counts once for each subscriber
	Published   uint64 // messages that were appended so far
	Kept        int    // messages in the histories
}

// Stats returns the figures of this moment.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Stats{
		Subscribers: int64(len(h.subscribers)),
		Delivered:   h.delivered.Load(),
		Published:   h.published,
		Kept:        h.histories.kept,
	}
}

// TopicCount is how many subscribers follow a topic by its name.
type TopicCount struct {
	Topic       string
	Subscribers int
}

const (
	// fewTopics are counted anew each time. Of more, the last count is used again until counting has cost no more
	// than one part in countShare of the time: the hub is locked meanwhile, and any client may ask.
	fewTopics  = 1000
	countShare = 20
)

// topicCounts is what Topics returned last.
type topicCounts struct {
	open    int
	busiest []TopicCount
	until   time.Duration // since the hub's start: when to count again
}

// Topics returns how many topics are followed by their names or have messages, and the five most followed of those that
// are not private, the first one first. It looks at each topic that is followed: 10,000 take about a millisecond. With
// more than 1,000 the answer may be somewhat old. The slice is shared and must not be changed.
func (h *Hub) Topics() (open int, busiest []TopicCount) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if begin := h.now(); len(h.topics) <= fewTopics || begin >= h.counted.until {
		h.counted.open, h.counted.busiest = h.countTopics()
		h.counted.until = begin + countShare*(h.now()-begin)
	}
	return h.counted.open, h.counted.busiest
}

func (h *Hub) countTopics() (open int, busiest []TopicCount) {
	order := func(a, b TopicCount) int {
		return cmp.Or(cmp.Compare(b.Subscribers, a.Subscribers), cmp.Compare(a.Topic, b.Topic))
	}
	open = h.histories.busy()
	for key, t := range h.topics {
		if IsWildcard(key) {
			continue
		}
		if len(h.histories.of(key).messages) == 0 {
			open++
		}
		count := TopicCount{key, t.subscribers}
		if strings.HasPrefix(key, private) || len(busiest) == 5 && order(count, busiest[4]) > 0 {
			continue
		}
		busiest = append(busiest, count)
		slices.SortFunc(busiest, order)
		busiest = busiest[:min(5, len(busiest))]
	}
	return open, busiest
}
