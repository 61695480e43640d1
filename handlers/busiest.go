package handlers

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/gin-gonic/gin"

	"gin-sse/internal/event"
	"gin-sse/internal/hub"
)

const (
	shownTopics = 5 // on the status page

	// fewTopics are counted each time. Of more, the last count is shown again until counting has cost no more than one
	// part in countShare of the time: any client may ask.
	fewTopics  = 1000
	countShare = 20
)

// busiest counts topics.
type busiest struct {
	public   event.Public // only these are shown
	mu       sync.Mutex
	followed int
	shown    []gin.H
	until    time.Time // when to count again
}

// count returns how many topics are followed by their names or have messages, and the most followed public ones, as the
// page shows them.
func (b *busiest) count(events *hub.Hub) (topics int, shown []gin.H) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if start := time.Now(); b.followed <= fewTopics || !start.Before(b.until) {
		b.followed, b.shown = mostFollowed(events, b.public)
		b.until = start.Add(countShare * time.Since(start))
	}
	return b.followed + events.Stats().Topics, b.shown
}

func mostFollowed(events *hub.Hub, public event.Public) (followed int, shown []gin.H) {
	type topic struct {
		name        string
		subscribers int
	}
	order := func(a, b topic) int {
		return cmp.Or(cmp.Compare(b.subscribers, a.subscribers), cmp.Compare(a.name, b.name))
	}
	var most []topic
	for pattern, f := range events.Followed() {
		t := topic{string(pattern), f.Subscribers}
		if pattern.IsWildcard() {
			continue
		}
		if !f.Kept { // the others are counted as topics that have messages
			followed++
		}
		if !public.Covers(t.name) || len(most) == shownTopics && order(t, most[shownTopics-1]) > 0 {
			continue
		}
		most = append(most, t)
		slices.SortFunc(most, order)
		most = most[:min(shownTopics, len(most))]
	}
	shown = []gin.H{}
	for _, t := range most {
		shown = append(shown, gin.H{"topic": t.name, "subscribers": humanize.Comma(int64(t.subscribers))})
	}
	return followed, shown
}
