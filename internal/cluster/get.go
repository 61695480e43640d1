package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// request asks the stream for some of its messages.
type request struct {
	Seq       uint64     `json:"seq,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"`
	LastFor   string     `json:"last_by_subj,omitempty"`
	NextFor   string     `json:"next_by_subj,omitempty"` // the first message on this subject, from Seq or StartTime on if one is given

	// For read alone.
	MultiLast []string `json:"multi_last,omitempty"` // the last message on each of these subjects
	Batch     int      `json:"batch,omitempty"`      // how many messages
	MaxBytes  int      `json:"max_bytes,omitempty"`
}

const (
	maxBytes = 1 << 20          // that one answer may have, unless a single message is larger
	readWait = 10 * time.Second // for an answer, over a slow link or from a busy server

	readAgain = time.Second // before another server is asked
)

// errGone says that the stream does not have the message.
var errGone = errors.New("no such message")

// get reads a message from the stream's leader. The client library would ask any server, if the stream allows
// that, and a server that is behind would answer that the message is gone.
func (r *Replica) get(ctx context.Context, what request) (m received, err error) {
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	payload, err := json.Marshal(what)
	if err != nil {
		return m, fmt.Errorf("encode request: %w", err)
	}
	reply, err := r.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+r.cfg.Stream, payload)
	if err != nil {
		return m, fmt.Errorf("ask for a message: %w", err)
	}
	r.answered()
	var answer struct {
		Message struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
		Error *jetstream.APIError `json:"error"`
	}
	err = json.Unmarshal(reply.Data, &answer)
	switch {
	case err != nil:
		return m, fmt.Errorf("ask for a message: %w", err)
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return m, errGone
	case answer.Error != nil:
		return m, fmt.Errorf("ask for a message: %w", answer.Error)
	}
	got := &answer.Message
	headers, _ := nats.DecodeHeadersMsg(got.Header) // it may have none, or some that make no sense
	return received{
		Msg:     &nats.Msg{Header: headers, Data: got.Data},
		subject: got.Subject,
		place:   place{number: got.Sequence, stored: got.Time, key: cmp.Or(headers.Get(jetstream.MsgIDHeader), noKey)},
	}, nil
}

// last reads the last message on a subject from any server that has the stream. It may be behind the leader.
func (r *Replica) last(ctx context.Context, subject string) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	payload, err := json.Marshal(request{LastFor: subject})
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	m, err := r.nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+r.cfg.Stream, payload)
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask for a message: %w", err)
	case last(m, jetstream.SequenceHeader) != "":
		return m, nil
	case m.Header.Get("Status") == "404":
		return nil, errGone
	}
	return nil, fmt.Errorf("ask for a message: %s %s", m.Header.Get("Status"), m.Header.Get("Description"))
}

// batch is what read returns.
type batch struct {
	messages []received
	end      uint64 // number of the last one, also if that is skipped because its headers make no sense
	pending  uint64 // how many more there are
	upTo     uint64 // after MultiLast: the server had the stream up to this number
}

// read reads several messages from any server that has the stream (JetStream's direct get, in batches). It may be behind
// the leader. One that is frozen still gets its share of the requests, so read soon asks again.
func (s *session) read(ctx context.Context, what request) (b batch, err error) {
	select {
	case s.reads <- struct{}{}:
		defer func() { <-s.reads }()
	case <-ctx.Done():
		return b, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	for patience := readAgain; ; patience *= 2 {
		if b, err = s.readOnce(ctx, what, patience); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return b, err
		}
	}
}

func (s *session) readOnce(ctx context.Context, what request, patience time.Duration) (b batch, err error) {
	payload, err := json.Marshal(what)
	if err != nil {
		return b, fmt.Errorf("encode request: %w", err)
	}
	inbox := s.nc.NewInbox()
	sub, err := s.nc.SubscribeSync(inbox)
	if err != nil {
		return b, fmt.Errorf("ask for messages: %w", err)
	}
	defer sub.Unsubscribe()
	if err := s.nc.PublishRequest("$JS.API.DIRECT.GET."+s.cfg.Stream, inbox, payload); err != nil {
		return b, fmt.Errorf("ask for messages: %w", err)
	}
	next := func() (*nats.Msg, error) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		return sub.NextMsgWithContext(ctx)
	}
	for {
		reply, err := next()
		if err != nil {
			return b, fmt.Errorf("ask for messages: %w", err)
		}
		if s.connection != s.connections() {
			return b, errDisconnected // it may be another NATS by now
		}
		status := reply.Header.Get("Status")
		switch {
		case last(reply, jetstream.SequenceHeader) != "": // a message, whatever status its publisher gave it
			m, err := receive(reply)
			if err != nil {
				s.tally(badMessage, last(reply, jetstream.SubjectHeader), err.Error())
				continue
			}
			b.messages = append(b.messages, m)
		case status == "204":
			s.answered()
			return b, errors.Join(
				parse(reply, "Nats-Num-Pending", &b.pending),
				parse(reply, jetstream.LastSequenceHeader, &b.end),
				parse(reply, "Nats-UpTo-Sequence", &b.upTo),
			)
		case status == "404":
			s.answered()
			return b, nil
		case status != "":
			return b, fmt.Errorf("ask for messages: %s %s", status, reply.Header.Get("Description"))
		default:
			s.tally(badMessage, "", "a stored message has headers that cannot be read")
		}
	}
}

// parse reads a number from a header, if there is one.
func parse(m *nats.Msg, header string, n *uint64) (err error) {
	if text := last(m, header); text != "" {
		*n, err = strconv.ParseUint(text, 10, 64)
	}
	return err
}
