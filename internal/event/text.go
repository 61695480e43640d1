package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
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
	return Message{Name: "position", Data: data}.Frame(id)
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
	return Message{Data: bytes.TrimSuffix(b.Bytes(), []byte("\n"))}.Frame(""), nil
}

// Gap returns the frame that says: messages up to this id may be missing.
func Gap(id string) []byte { return Message{Name: "gap", Data: json.RawMessage("{}")}.Frame(id) }

// Frame returns the frame of a message with that id. A message that only ends its topic has none.
func (m Message) Frame(id string) []byte {
	if m.IsSilent() {
		return nil
	}
	data, digits := onOneLine(m.Data), ""
	if m.Time != 0 {
		digits = strconv.FormatInt(m.Time, 10)
	}
	// EventSource ignores a topic and a time, and everything else may read them.
	fields := [...]struct{ name, value string }{{"id:", id}, {"event:", m.Name}, {"topic:", m.Topic}, {"time:", digits}}
	size := len("data:\n\n") + len(data)
	for _, field := range fields {
		if field.value != "" {
			size += len(field.name) + len(field.value) + len("\n")
		}
	}
	frame := make([]byte, 0, size) // and no more: frames are kept, and appending to one must copy it
	for _, field := range fields {
		if field.value != "" {
			frame = append(append(append(frame, field.name...), field.value...), '\n')
		}
	}
	return append(append(append(frame, "data:"...), data...), "\n\n"...)
}
