package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// A batch is stored as a whole or not at all, next to each other and in order (JetStream's atomic publish, since
// NATS 2.12). That is what makes it safe to try again: if messages were merely sent one after the other without
// waiting, one could be lost at a change of the leader and be stored after the following ones.

const (
	batchID       = "Nats-Batch-Id"
	batchSequence = "Nats-Batch-Sequence"
	batchCommit   = "Nats-Batch-Commit"

	maxBatch   = 500     // messages; NATS accepts 1,000
	batchLevel = 2       // the level of JetStream's API that has batches
	batchesOff = 10174   // JetStream's code for a stream that takes no batches
	perMessage = 1 << 10 // bytes that the headers of a message may take, with room to spare
)

// allowBatches makes the stream take batches, if NATS can do that. If it cannot, or must not, messages are published
// one at a time. NATS does not answer a replica that must not, nor for a moment after a cluster has made the stream. So
// allowBatches is called again after a while, and gives up when a second attempt gets no answer.
func (r *Replica) allowBatches(ctx context.Context, stream jetstream.Stream) jetstream.Stream {
	config := stream.CachedInfo().Config
	if !config.AllowAtomicPublish && level(stream) >= batchLevel && r.refusals < 2 {
		ctx, cancel := context.WithTimeout(ctx, answerWait)
		defer cancel()
		config.AllowAtomicPublish = true
		updated, err := r.js.UpdateStream(ctx, config)
		switch {
		case err == nil:
			stream = updated
		case errors.Is(ctx.Err(), context.Canceled):
		case ctx.Err() != nil && r.refusals == 0:
			r.refusals = 1
		default:
			r.refusals = 2
			r.cfg.Log("NATS: the stream %q takes no batches, so an upload of many lines is slow: %s", r.cfg.Stream, cause(err))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = stream.CachedInfo().Config.AllowAtomicPublish
	return stream
}

// batchable returns how many of the messages, from the first on, can be one batch. It ends before a message whose
// topic has ended or that NATS would find too large, and after one that ends its topic.
func (r *Replica) batchable(ctx context.Context, messages []outgoing) (n int) {
	r.mu.Lock()
	batches := r.batches
	r.mu.Unlock()
	if !batches || len(messages) == 1 {
		return 0
	}
	room := int(r.nc.MaxPayload())
	for n < min(len(messages), maxBatch) {
		o := &messages[n]
		if o.tried || o.alone || len(o.Data)+perMessage > room {
			return n
		}
		if n == 0 || messages[n-1].topic != o.topic {
			if ended, err := r.ended(ctx, o.topic); ended || err != nil {
				return n
			}
		}
		n++
		if o.end {
			return n
		}
	}
	return n
}

// storeBatch makes one attempt to store the messages together.
func (r *Replica) storeBatch(ctx context.Context, messages []outgoing) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	batch := nuid.Next()
	_, _, known := r.truth.now()
	var reply *nats.Msg
	for i, o := range messages {
		m := &nats.Msg{Subject: o.Subject, Data: o.Data, Header: maps.Clone(o.Header)}
		m.Header.Set(jetstream.MsgIDHeader, o.once)
		m.Header.Set(jetstream.ExpectedStreamHeader, r.cfg.Stream)
		m.Header.Set(batchID, batch)
		m.Header.Set(batchSequence, strconv.Itoa(i+1))
		if i < len(messages)-1 {
			err = r.nc.PublishMsg(m)
		} else {
			m.Header.Set(batchCommit, "1")
			for i := range messages {
				messages[i].tried = true
			}
			reply, err = r.nc.RequestMsgWithContext(ctx, m)
		}
		if err != nil {
			return "", fmt.Errorf("publish a batch: %w", err)
		}
	}
	var answer struct {
		Sequence uint64              `json:"seq"`
		Count    int                 `json:"count"`
		Error    *jetstream.APIError `json:"error"`
	}
	err = json.Unmarshal(reply.Data, &answer)
	switch {
	case err != nil:
		return "", fmt.Errorf("publish a batch: %w", err)
	case answer.Error != nil:
		for i := range messages {
			messages[i].tried = false
		}
		if answer.Error.ErrorCode == batchesOff {
			r.mu.Lock()
			r.batches = false
			r.mu.Unlock()
		}
		return "", answer.Error
	case answer.Count != len(messages):
		return "", fmt.Errorf("publish a batch: NATS stored %d of %d messages", answer.Count, len(messages))
	}
	if err := r.acknowledged(known.number, answer.Sequence-uint64(answer.Count)+1, messages[0].once, false); err != nil {
		return "", err
	}
	if err := r.acknowledged(0, answer.Sequence, messages[len(messages)-1].once, false); err != nil {
		return "", err
	}
	return r.events.ID(answer.Sequence), nil
}
