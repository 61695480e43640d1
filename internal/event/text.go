package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
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
	return encode(id, "position", "", "", string(data))
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
	return encode("", "", "", "", onOneLine(bytes.TrimSuffix(b.Bytes(), []byte("\n")))), nil
}

// Frame returns the frame of a message with that id. A message that only ends its topic has none.
func (m Message) Frame(id string) []byte {
	if m.IsSilent() {
		return nil
	}
	time := ""
	if m.Time != 0 {
		time = strconv.FormatInt(m.Time, 10)
	}
	return encode(id, m.Name, m.Topic, time, onOneLine(m.Data)) // EventSource ignores the topic and the time, and everything else may read them
}

// Gap returns the frame that says: messages up to this id may be missing.
func Gap(id string) []byte { return encode(id, "gap", "", "", "{}") }

// encode returns the frame of an event, without the fields that are empty. No field has a line break.
func encode(id, name, topic, time, data string) []byte {
	var buffer [512]byte
	b := buffer[:0]
	for _, field := range [...]struct{ name, value string }{{"id:", id}, {"event:", name}, {"topic:", topic}, {"time:", time}, {"data:", data}} {
		if field.value != "" {
			b = append(append(append(b, field.name...), field.value...), '\n')
		}
	}
	return slices.Clip(bytes.Clone(append(b, '\n'))) // frames are shared: appending to one must copy it
}
