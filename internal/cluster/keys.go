package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"gin-sse/internal/idempotency"
)

// NATS never stores a key twice that it knows: those of the last two minutes (the stream's duplicate window). But after a
// restart it knows only the keys of messages that the stream still has, and a topic that is full drops its messages
// sooner. So each key also leaves a receipt, a message on a subject of its own, which NATS drops after two minutes. The lines
// of an upload share one receipt, which says how far the upload has come.

// receipt is what a key was used for.
type receipt struct {
	line   int                // of an upload, or 0
	number uint64             // of the message
	digest idempotency.Digest // of the message
}

// receiptOf returns the subject of a key's receipt, and which line of an upload the key belongs to.
func receiptOf(stream, key string) (subject string, line int) {
	tab := strings.LastIndexByte(key, '\t') + 1
	line, _ = strconv.Atoi(key[tab:])
	if tab > 0 && line > 0 {
		key = key[:tab]
	} else {
		line = 0
	}
	hash := sha256.Sum256([]byte(key))
	return stream + "." + keyToken + "." + base64.RawURLEncoding.EncodeToString(hash[:16]), line
}

// receiptFor returns the receipt that a message leaves. If the number is 0, it is that of the message before the receipt.
func (r *Replica) receiptFor(o *outgoing, number uint64) *nats.Msg {
	m := nats.NewMsg(o.receipt)
	m.Header.Set(jetstream.MsgTTLHeader, idempotency.Remembered.String())
	digest := idempotency.Sum(o.Message)
	m.Data = fmt.Appendf(nil, "%d %d %x", o.line, number, digest[:])
	return m
}

// findReceipt reads the receipt of a key. It has no number if there is none.
func (r *Replica) findReceipt(ctx context.Context, o *outgoing) (found receipt, err error) {
	m, err := r.last(ctx, o.receipt)
	switch {
	case errors.Is(err, errGone):
		return receipt{}, nil
	case err != nil:
		return receipt{}, err
	}
	var digest []byte
	if _, err := fmt.Sscanf(string(m.Data), "%d %d %x", &found.line, &found.number, &digest); err != nil || len(digest) != len(found.digest) {
		return receipt{}, nil // any program may have published it
	}
	found.digest = idempotency.Digest(digest)
	if found.number == 0 {
		err = parse(m, jetstream.SequenceHeader, &found.number)
		found.number--
	}
	return found, err
}
