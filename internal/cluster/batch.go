package cluster

import (
	"context"
	"errors"
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

// allowMore makes the stream take batches, if NATS can do that, and messages that NATS drops after a while. If it cannot, or
// must not, messages are published one at a time, and keys are forgotten with their messages. NATS does not answer a replica
// that must not, nor for a moment after a cluster has made the stream. So allowMore is called again after a while, and gives
// up when a second attempt gets no answer.
func (r *Replica) allowMore(ctx context.Context, stream jetstream.Stream) jetstream.Stream {
	config := stream.CachedInfo().Config
	lacks := !config.AllowMsgTTL || !config.AllowAtomicPublish && level(stream) >= batchLevel
	if lacks && r.refusals < 2 {
		ctx, cancel := context.WithTimeout(ctx, answerWait)
		defer cancel()
		config.AllowMsgTTL, config.AllowAtomicPublish = true, config.AllowAtomicPublish || level(stream) >= batchLevel
		updated, err := r.js.UpdateStream(ctx, config)
		switch {
		case err == nil:
			stream = updated
		case errors.Is(ctx.Err(), context.Canceled):
		case ctx.Err() != nil && r.refusals == 0:
			r.refusals = 1
		default:
			r.refusals = 2
			r.warn("NATS: the stream %q takes no batches or no messages with a TTL, so uploads of many lines are slow, or a restart of NATS forgets the keys of messages that are gone: %s", r.cfg.Stream, cause(err))
		}
	}
	r.batches.Store(stream.CachedInfo().Config.AllowAtomicPublish)
	r.receipts.Store(stream.CachedInfo().Config.AllowMsgTTL)
	return stream
}

// batchable returns how many of the messages, from the first on, can be one batch: those of one topic, and with one receipt.
// It ends before a message that NATS would find too large, and after one that ends the topic.
func (r *Replica) batchable(messages []outgoing) (n int) {
	if len(messages) == 1 || !r.batches.Load() { // before the first session there is no connection
		return 1
	}
	room, first := int(r.nc.MaxPayload()), &messages[0]
	for n < min(len(messages), maxBatch) {
		o := &messages[n]
		if o.tried || o.Replace || o.Topic != first.Topic || o.receipt != first.receipt || len(o.Msg.Data)+perMessage > room {
			break
		}
		if n++; o.End {
			break
		}
	}
	return max(n, 1)
}

// batch returns the messages as a batch, and their receipt.
func (r *Replica) batch(messages []outgoing) (all []*nats.Msg) {
	for _, o := range messages {
		all = append(all, &nats.Msg{Subject: o.Subject, Data: o.Msg.Data, Header: maps.Clone(o.Header)})
	}
	if final := &messages[len(messages)-1]; final.receipt != "" && r.receipts.Load() {
		all = append(all, r.receiptFor(final, 0))
	}
	batch := nuid.Next()
	for i, m := range all {
		m.Header.Set(batchID, batch)
		m.Header.Set(batchSequence, strconv.Itoa(i+1))
	}
	all[len(all)-1].Header.Set(batchCommit, "1")
	return all
}
