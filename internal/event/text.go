package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/gin-contrib/sse"
)

// Comment is sent when nothing else has been sent for a while. Clients ignore it.
const Comment = ":\n\n"

// Position is what the event called position says.
type Position struct {
	Live    bool  `json:"live"`              // nothing that is kept follows any more
	Expires int64 `json:"expires,omitempty"` // when the stream will end, in seconds since 1970
}

// Frame returns the frame of the event. Its id is where the stream is: a client that is cut off before any message came
// resumes from there. The id stands in an event with data, because Firefox, WebKit and npm's eventsource forget an id that
// comes without.
func (p Position) Frame(id string) []byte {
	data, _ := json.Marshal(p) // numbers and booleans always encode
	return encode(sse.Event{Id: id, Event: "position", Data: string(data)})
}

// Retry returns a line for the first block of a stream: how long to wait before reconnecting, a random time of 2 to 5 s. It
// is random so that a restart does not bring all clients back in the same instant.
func Retry() []byte { return fmt.Appendf(nil, "retry:%d\n", 2000+rand.IntN(3000)) }

// Tick returns the frame of an event without an id. The error is about data that cannot be JSON.
func Tick(data any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(data); err != nil {
		return nil, fmt.Errorf("encode tick: %w", err)
	}
	return encode(sse.Event{Data: onOneLine(bytes.TrimSuffix(b.Bytes(), []byte("\n")))}), nil
}

// Frame returns the frame of a message with that id. A message that only ends its topic has none.
func (m Message) Frame(id string) []byte {
	if m.IsSilent() {
		return nil
	}
	data := onOneLine(m.Data)
	frame := encode(sse.Event{Id: id, Event: m.Name, Data: data})
	// EventSource ignores these two fields, and everything else may read them.
	fields := make([]byte, 0, 256)
	if m.Topic != "" {
		fields = append(append(append(fields, "topic:"...), m.Topic...), '\n')
	}
	if m.Time != 0 {
		fields = append(strconv.AppendInt(append(fields, "time:"...), m.Time, 10), '\n')
	}
	i := len(frame) - len("data:\n\n") - len(data)
	return slices.Concat(frame[:i], fields, frame[i:])
}

// Gap returns the frame that says: messages up to this id may be missing.
func Gap(id string) []byte { return encode(sse.Event{Id: id, Event: "gap", Data: "{}"}) }

// encode returns the frame of an event whose data is JSON on one line. The data is a string, because the encoder would
// escape anything else for HTML.
func encode(e sse.Event) []byte {
	var b bytes.Buffer
	b.Grow(len(e.Id) + len(e.Event) + len(e.Data.(string)) + len("id:\nevent:\ndata:\n\n"))
	_ = sse.Encode(&b, e)         // a buffer takes everything
	return slices.Clip(b.Bytes()) // frames are shared: appending to one must copy it
}
