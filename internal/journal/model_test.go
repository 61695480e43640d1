package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
	"gin-sse/internal/hub"
	"gin-sse/internal/testmodel"
)

// model is what a journal should do, as simple as it can be.
type model struct {
	t        *testing.T
	r        *rand.Rand
	s        *server
	exact    bool // the model knows what is dropped: HISTORY_BYTES plays no part
	topics   int
	all      []event.Message            // ever stored
	hole     uint64                     // the last number of the one before the next message, if the server was started since the last one
	kept     map[string][]event.Message // for each topic
	replaced map[string]uint64          // for each topic, the message that took the place of those before
	ended    map[string]bool
	keys     map[string]event.Message
}

func (m *model) last() uint64 {
	if len(m.all) == 0 {
		return 0
	}
	return m.all[len(m.all)-1].Number
}

// publish publishes up to four messages together.
func (m *model) publish() {
	var messages []event.Message
	for range 1 + m.r.IntN(4) {
		topic := fmt.Sprintf("t/%d", m.r.IntN(m.topics))
		if m.r.IntN(5) == 0 {
			topic = ""
		}
		message := event.Message{Topic: topic, Data: json.RawMessage(strconv.Itoa(m.r.Int())), Replace: m.r.IntN(10) == 0}
		if topic != "" && m.r.IntN(12) == 0 {
			message.End = true
			if m.r.IntN(2) == 0 {
				message.Data = nil
			}
		}
		if m.r.IntN(3) == 0 {
			message.Key = strconv.Itoa(m.r.IntN(50))
			if before, used := m.keys[message.Key]; used && m.r.IntN(4) > 0 {
				message = before
				message.Number = 0
			}
		}
		messages = append(messages, message)
	}
	kept, id, err := m.s.Publish(m.t.Context(), messages...)
	wantID := ""
	for i, message := range messages {
		before, used := m.keys[message.Key]
		same := used && before.Topic == message.Topic && before.End == message.End && before.Replace == message.Replace && string(before.Data) == string(message.Data)
		var want error
		switch {
		case used && !same:
			want = event.ErrKeyReused
		case !used && m.ended[message.Topic] && !message.Erases():
			want = event.ErrEnded
		}
		if want != nil {
			if !errors.Is(err, want) || kept != i {
				m.t.Fatalf("%d kept, %v; want %d, %v", kept, err, i, want)
			}
			break
		}
		if i >= kept {
			m.t.Fatalf("%d of %d kept: %v", kept, len(messages), err)
		}
		if used {
			wantID = m.s.events.ID(before.Number)
			continue
		}
		wantID = m.s.events.ID(m.stored(message, max(m.last(), m.hole)+1))
	}
	if id != wantID {
		m.t.Fatalf("the id is %q, want %q", id, wantID)
	}
}

// stored notes a message that is stored, and returns its number.
func (m *model) stored(message event.Message, number uint64) uint64 {
	message.Number = number
	m.all = append(m.all, message)
	if message.Key != "" {
		m.keys[message.Key] = message
	}
	m.ended[message.Topic] = message.End
	if message.Replace {
		m.kept[message.Topic], m.replaced[message.Topic] = nil, message.Number
	}
	if message.Data != nil {
		m.kept[message.Topic] = append(m.kept[message.Topic], message)
	}
	m.trim()
	return message.Number
}

// trim drops what HISTORY does not allow, but for the newest message of all, which is the window.
func (m *model) trim() {
	newest := uint64(0)
	for _, list := range m.kept {
		if n := len(list); n > 0 {
			newest = max(newest, list[n-1].Number)
		}
	}
	for topic, list := range m.kept {
		for ; len(list) > m.s.limits.PerTopic && list[0].Number < newest; list = list[1:] {
		}
		m.kept[topic] = list
	}
}

// fail lets the disk fail, or work but report a failure, while something is published.
func (m *model) fail() {
	m.s.strike.Store(int32(fails + m.r.IntN(3)))
	key := fmt.Sprint("lost ", m.r.Int())
	message := event.Message{Topic: "t/0", Data: json.RawMessage(strconv.Itoa(m.r.Int())), Key: key}
	for range 1 + m.r.IntN(3) {
		kept, _, err := m.s.Publish(m.t.Context(), message)
		if errors.Is(err, event.ErrEnded) {
			break
		}
		if kept != 0 || !errors.Is(err, errStrike) || !errors.Is(m.s.Ready(), errStrike) {
			m.t.Fatalf("while the disk fails, %d are kept: %v; ready: %v", kept, err, m.s.Ready())
		}
		message.Key = ""
	}
	m.s.strike.Store(0)
	if m.r.IntN(3) == 0 {
		m.crash()
		message.Key = key
		if m.s.last > m.last() { // it was stored all the same
			m.stored(message, m.s.last)
		}
		return
	}
	time.Sleep(probeWait)
	synctest.Wait()
	if err := m.s.Ready(); err != nil {
		m.t.Fatal(err)
	}
}

// restart starts again, in order or after a crash, with the same limits or others.
func (m *model) restart() {
	if m.r.IntN(2) == 0 {
		m.crash()
		return
	}
	if m.r.IntN(2) == 0 { // after a crash, a longer history may still have what a shorter one had dropped
		m.s.limits.PerTopic = m.r.IntN(8)
	}
	m.s.restart()
	m.hole = m.s.hole.Last
	m.trim()
}

// crash starts again with what is in the file now.
func (m *model) crash() {
	copied := m.t.TempDir()
	content, err := os.ReadFile(file(m.s.dir))
	if err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(file(copied), content, 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.s.dir = copied
	m.s.restart()
	m.hole = m.s.hole.Last
}

// resume compares what a client with an old id gets with what it should get.
func (m *model) resume() {
	var names []string
	for range 1 + m.r.IntN(3) {
		names = append(names, fmt.Sprintf("t/%d", m.r.IntN(m.topics)))
	}
	switch m.r.IntN(4) {
	case 0:
		names = []string{"*"}
	case 1:
		names = nil
	}
	follows := func(topic string) bool {
		switch {
		case names == nil:
			return topic == ""
		case names[0] == "*":
			return topic != ""
		}
		return slices.Contains(names, topic)
	}
	var after uint64
	if i := m.r.IntN(len(m.all) + 1); i > 0 {
		after = m.all[i-1].Number
	}
	var want []string
	lost := false
	for _, message := range m.all {
		if message.Number > after && follows(message.Topic) && message.Data != nil && message.Number >= m.replaced[message.Topic] {
			if slices.ContainsFunc(m.kept[message.Topic], func(k event.Message) bool { return k.Number == message.Number }) {
				want = append(want, string(message.Data))
			} else {
				lost = true
			}
		}
	}
	var got []string
	gap := false
	for _, line := range m.s.read(m.s.events.ID(after), names...) {
		switch {
		case strings.HasPrefix(line, "gap"):
			gap = true
		case line != "end" && line != "ended":
			got = append(got, line)
		}
	}
	if m.exact && (!slices.Equal(got, want) || gap != lost) {
		m.t.Fatalf("after %d of %q come %v, gap %t; want %v, %t", after, names, got, gap, want, lost)
	}
	if !slices.Equal(got, want) && !gap { // without the exact model, nothing is lost without a gap
		m.t.Fatalf("after %d of %q come %v without a gap; want %v", after, names, got, want)
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			m.t.Fatalf("after %d of %q comes %s; want %v", after, names, line, want)
		}
	}
}

func TestRandomUseAndRestartsAgreeWithASimpleModel(t *testing.T) {
	t.Parallel()
	testmodel.Run(t, 4, runModel)
}

func runModel(t *testing.T, seed uint64) {
	synctest.Test(t, func(t *testing.T) { useAtRandom(t, rand.New(rand.NewPCG(seed, 0))) })
}

func useAtRandom(t *testing.T, r *rand.Rand) {
	m := &model{t: t, r: r, exact: r.IntN(3) > 0, topics: 5, kept: map[string][]event.Message{}, replaced: map[string]uint64{}, ended: map[string]bool{}, keys: map[string]event.Message{}}
	limits := hub.Options{Limits: history.Limits{PerTopic: r.IntN(8), Bytes: 1 << 40, Window: 1}}
	if !m.exact {
		m.topics, limits.Bytes = 400, 2000
	}
	m.s = start(t, t.TempDir(), limits)
	defer m.s.close()
	for range 200 {
		switch op := r.IntN(20); {
		case op < 12:
			m.publish()
		case op < 17:
			m.resume()
		case op < 18:
			m.fail()
		default:
			m.restart()
		}
	}
}
