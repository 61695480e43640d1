package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// request asks the stream for one of its messages.
type request struct {
	Seq       uint64     `json:"seq,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"`
	LastFor   string     `json:"last_by_subj,omitempty"`
	NextFor   string     `json:"next_by_subj,omitempty"` // the first message on this subject, from Seq or StartTime on if one is given
}

// stored is a message of the stream.
type stored struct {
	Subject  string    `json:"subject"`
	Sequence uint64    `json:"seq"`
	Header   []byte    `json:"hdrs"`
	Data     []byte    `json:"data"`
	Time     time.Time `json:"time"`
}

// header returns the value of a header, or the empty string.
func (s *stored) header(name string) string {
	headers, err := nats.DecodeHeadersMsg(s.Header)
	if err != nil {
		return "" // there are none
	}
	return headers.Get(name)
}

// errGone says that the stream does not have the message.
var errGone = errors.New("no such message")

// get reads a message from the stream's leader. The client library would ask any server, if the stream allows
// that, and a server that is behind would answer that the message is gone.
func (r *Replica) get(ctx context.Context, what request) (*stored, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	payload, err := json.Marshal(what)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	reply, err := r.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+r.cfg.Stream, payload)
	if err != nil {
		return nil, fmt.Errorf("ask for a message: %w", err)
	}
	var answer struct {
		Message *stored             `json:"message"`
		Error   *jetstream.APIError `json:"error"`
	}
	err = json.Unmarshal(reply.Data, &answer)
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask for a message: %w", err)
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, errGone
	case answer.Error != nil:
		return nil, fmt.Errorf("ask for a message: %w", answer.Error)
	case answer.Message == nil:
		return nil, errors.New("ask for a message: the answer has none")
	}
	return answer.Message, nil
}
