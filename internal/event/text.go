package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/gin-contrib/sse"
)

// Comment is sent when nothing else has been sent for a while. Clients ignore it.
const Comment = ":\n\n"

// Start returns the first block of a stream: how long to wait before reconnecting, and the id where the stream
// begins. A client that is cut off before any message came resumes from that id. The id stands in an event called
// position, because Firefox, WebKit and npm's eventsource forget an id that comes without data. A retry of zero and
// an empty id are left out.
func Start(retry int, id string) []byte {
	var b []byte
	if retry > 0 {
		b = fmt.Appendf(b, "retry:%d\n", retry)
	}
	if id != "" {
		b = fmt.Appendf(b, "id:%s\nevent:position\ndata:{}\n", id)
	}
	return append(b, '\n')
}

// Retry returns a random number of milliseconds from 2000 to 4999. It is random so that a restart does not bring all
// clients back in the same instant.
func Retry() int { return 2000 + rand.IntN(3000) }

// Tick returns the frame of an event without an id. The error is about data that cannot be JSON.
func Tick(data any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(data); err != nil {
		return nil, fmt.Errorf("encode tick: %w", err)
	}
	return encode(sse.Event{Data: strings.TrimSuffix(b.String(), "\n")}), nil
}

// Frame returns the frame of a message with that id. A message that only ends its topic has none. The error is about
// data that is not JSON.
func (m Message) Frame(id string) ([]byte, error) {
	if m.IsSilent() {
		return nil, nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, m.Data); err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	return encode(sse.Event{Id: id, Event: m.Name, Data: compact.String()}), nil
}

// Gap returns the frame that says: messages up to this id may be missing.
func Gap(id string) []byte { return encode(sse.Event{Id: id, Event: "gap", Data: "{}"}) }

// encode returns the frame of an event whose data is compact JSON. The data is passed as a string, because the
// encoder would escape anything else for HTML.
func encode(e sse.Event) []byte {
	data := escapeLineBreaks(e.Data.(string))
	e.Data = data
	var b bytes.Buffer
	b.Grow(len(e.Id) + len(e.Event) + len(data) + len("id:\nevent:\ndata:\n\n"))
	_ = sse.Encode(&b, e)         // a buffer takes everything
	return slices.Clip(b.Bytes()) // frames are shared: appending to one must copy it
}
