package journal

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/cespare/xxhash/v2"
	bolt "go.etcd.io/bbolt"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
	"gin-sse/internal/idempotency"
)

// The file is a bbolt database with two buckets. Numbers are big-endian; those in lists are varints.
//
//	gin-sse   "version": the version of this format
//	          "state": the state
//	          "probe": zeros, which show after a failure that the disk has room again
//	records   "h", number: first number of the hole that has this one as its last
//	          "h=", topic: number of its latest loss, number of its latest end
//	          "k", number: list of the keys used up to this number, as far as the last note has them, see write
//	          "m", number: list of messages from this number on
//
// A list has entries of a number, a length and that many bytes. Those of a message are its flags, time (if there is one),
// topic, name, key (if there is one) and data, and those of a key its time of use, digest and key.
//
// The latest messages are in the state until they are enough for a record. bbolt writes all pages from a record to the root
// of the file anew. The state is on the root page itself as long as it is small, so most transactions with a single message
// write no other page with records.
//
// bbolt keeps no checksums of its pages. The state has a sum over all records, which each transaction brings up to date and
// each start checks.
var (
	mainBucket    = []byte("gin-sse")
	recordsBucket = []byte("records")

	versionKey = []byte("version")
	stateKey   = []byte("state")
	probeKey   = []byte("probe")
)

// Kinds of records, which their keys begin with.
const (
	pastKind    = 'h' // holes and histories
	keyKind     = 'k'
	messageKind = 'm'
)

// version of the format. Raise it when older programs could misread the file.
const version = "4"

// oldBuckets are those of the versions 1, whose messages have no time and replace nothing, 2, which has no holes, and 3. They
// have a bucket for each kind of record, and a record for each message and key.
var oldBuckets = []string{"holes", "histories", "keys", "messages"}

func isOld(found []byte) bool { return len(found) == 1 && '1' <= found[0] && found[0] <= '3' }

// each calls do for each record. Those of an old file are handed over as they are to be in this version. It returns how
// many there are, and the sum of their hashes.
func each(tx *bolt.Tx, do func(key, value []byte) error) (count, sum uint64, err error) {
	for _, bucket := range append([]string{"records"}, oldBuckets...) {
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			continue
		}
		err := b.ForEach(func(key, value []byte) error {
			if bucket != "records" {
				key = append([]byte{bucket[0]}, key...)
			}
			count, sum = count+1, sum+hash(key, value)
			if (bucket == "messages" || bucket == "keys") && len(key) == 9 {
				value = appendEntry(nil, binary.BigEndian.Uint64(key[1:]), value)
			}
			return do(key, value)
		})
		if err != nil {
			return 0, 0, err
		}
	}
	return count, sum, nil
}

// hash is different for each record.
func hash(key, value []byte) uint64 {
	d := xxhash.New()
	_, _ = d.Write(key) // it takes everything
	_, _ = d.Write(value)
	return d.Sum64()
}

const (
	listBytes = 700 // of the entries of a list that gets no more; several such records are on a page, and the state on the root page
	maxHoles  = 1000
)

// flags of a message
const (
	endFlag = 1 << iota
	replaceFlag
	timeFlag
	keyFlag
)

var errUnreadable = errors.New("a record cannot be read")

// state is what the file knows of itself.
type state struct {
	last     uint64 // number of the last message that was stored
	noted    uint64 // messages up to this number are accounted for in the other records
	floor    uint64 // history.Changes.Forgotten
	count    uint64 // records
	sum      uint64 // of their hashes, in any order
	epoch    string // 8 bytes
	messages []byte // list of the latest ones, which are in no record yet
}

const epochEnd = 6 * 8 // of the state

func (s *state) encode() []byte {
	b := make([]byte, 0, epochEnd+len(s.messages)+8)
	for _, n := range []uint64{s.last, s.noted, s.floor, s.count, s.sum} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = append(append(b, s.epoch...), s.messages...)
	return binary.BigEndian.AppendUint64(b, xxhash.Sum64(b))
}

func (s *state) decode(b []byte) error {
	if len(b) < epochEnd+8 {
		return errUnreadable
	}
	b, sum := b[:len(b)-8], binary.BigEndian.Uint64(b[len(b)-8:])
	if xxhash.Sum64(b) != sum {
		return errors.New("the checksum of its state is wrong")
	}
	for i, field := range []*uint64{&s.last, &s.noted, &s.floor, &s.count, &s.sum} {
		*field = binary.BigEndian.Uint64(b[8*i:])
	}
	s.epoch = string(b[epochEnd-8 : epochEnd])
	s.messages = append(make([]byte, 0, 2*listBytes), b[epochEnd:]...)
	return nil
}

func encodeNumber(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// numbered returns the key of a record of that kind.
func numbered(kind byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, 9), kind), n)
}

func appendEntry(list []byte, number uint64, content []byte) []byte {
	list = binary.AppendUvarint(list, number)
	return append(binary.AppendUvarint(list, uint64(len(content))), content...)
}

// entries calls do for each entry of a list, with its number, its content and all of its bytes.
func entries(list []byte, do func(number uint64, content, entry []byte) error) error {
	for len(list) > 0 {
		number, n := binary.Uvarint(list)
		if n <= 0 {
			return errUnreadable
		}
		content, rest, err := cutBytes(list[n:])
		if err != nil {
			return err
		}
		if err := do(number, content, list[:len(list)-len(rest)]); err != nil {
			return err
		}
		list = rest
	}
	return nil
}

// cutBytes returns the bytes that stand at the beginning after their number, and what comes after them.
func cutBytes(b []byte) (content, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, errUnreadable
	}
	return b[n : n+int(size)], b[n+int(size):], nil
}

// appendMessage adds a message to a list. It uses the buffer.
func appendMessage(list []byte, m event.Message, buffer *[]byte) []byte {
	b := append((*buffer)[:0], 0)
	if m.End {
		b[0] |= endFlag
	}
	if m.Replace {
		b[0] |= replaceFlag
	}
	if m.Time != 0 {
		b[0] |= timeFlag
		b = binary.AppendVarint(b, m.Time)
	}
	fields := []string{m.Topic, m.Name, m.Key}
	if m.Key != "" {
		b[0] |= keyFlag
	} else {
		fields = fields[:2]
	}
	for _, field := range fields {
		b = append(binary.AppendUvarint(b, uint64(len(field))), field...)
	}
	*buffer = append(b, m.Data...)
	return appendEntry(list, m.Number, *buffer)
}

// decodeMessage returns the message of an entry. Its data is a part of the entry.
func decodeMessage(number uint64, b []byte) (m event.Message, err error) {
	if len(b) == 0 || b[0] >= keyFlag<<1 {
		return m, errUnreadable
	}
	flags, b := b[0], b[1:]
	m.Number, m.End, m.Replace = number, flags&endFlag != 0, flags&replaceFlag != 0
	if flags&timeFlag != 0 {
		var n int
		if m.Time, n = binary.Varint(b); n <= 0 {
			return m, errUnreadable
		}
		b = b[n:]
	}
	fields := []*string{&m.Topic, &m.Name, &m.Key}
	if flags&keyFlag == 0 {
		fields = fields[:2]
	}
	for _, field := range fields {
		var content []byte
		if content, b, err = cutBytes(b); err != nil {
			return m, err
		}
		*field = string(content)
	}
	m.Data = b
	return m, nil
}

func encodeUse(u idempotency.Use) []byte {
	b := make([]byte, 0, 8+len(u.Digest)+len(u.Key))
	b = binary.BigEndian.AppendUint64(b, uint64(u.At.UnixNano()))
	return append(append(b, u.Digest[:]...), u.Key...)
}

func decodeUse(number uint64, b []byte) (u idempotency.Use, err error) {
	if len(b) < 8+len(u.Digest) {
		return u, errUnreadable
	}
	u.Number, u.At = number, time.Unix(0, int64(binary.BigEndian.Uint64(b)))
	u.Digest = idempotency.Digest(b[8 : 8+len(u.Digest)])
	u.Key = string(b[8+len(u.Digest):])
	return u, nil
}

// historyKey returns the key of a history's record.
func historyKey(topic string) []byte { return append([]byte{pastKind, '='}, topic...) }

// encodeHistory returns the value of the record, or nothing if nothing is known of the topic.
func encodeHistory(t history.Past) []byte {
	if t.Lost == 0 && t.Ended == 0 {
		return nil
	}
	return binary.BigEndian.AppendUint64(encodeNumber(t.Lost), t.Ended)
}

// decodePast takes a record of a hole or a history.
func decodePast(key, value []byte) (hole history.Hole, t history.Past, err error) {
	switch big := binary.BigEndian; {
	case len(key) > 1 && key[1] == '=' && len(value) == 16:
		t = history.Past{Topic: string(key[2:]), Lost: big.Uint64(value), Ended: big.Uint64(value[8:])}
	case len(key) == 9 && len(value) == 8:
		hole = history.Hole{First: big.Uint64(value), Last: big.Uint64(key[1:])}
	default:
		err = errUnreadable
	}
	return hole, t, err
}
