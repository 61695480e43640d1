package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"
	bolt "go.etcd.io/bbolt"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
	"gin-sse/internal/idempotency"
)

// The file is a bbolt database with these buckets. All numbers are big-endian.
//
//	gin-sse    "version": the version of this format
//	           "state": the state
//	messages   number: flags, time (if there is one), topic, name, idempotency key (if there is one), data
//	keys       number of the message: time of use, digest, key; up to the last note, see write
//	histories  "=" and the name of a topic: number of its latest loss, number of its latest end
//	holes      last number: first number
//
// bbolt keeps no checksums of its pages. The state has a sum over all records of the other buckets, which each
// transaction brings up to date and each start checks.
var (
	mainBucket      = []byte("gin-sse")
	messagesBucket  = []byte("messages")
	keysBucket      = []byte("keys")
	historiesBucket = []byte("histories")
	holesBucket     = []byte("holes")

	versionKey = []byte("version")
	stateKey   = []byte("state")
	probeKey   = []byte("probe")
)

// version of the format. Raise it when older programs could misread the file. A file of version 1, whose messages have no
// time and replace nothing, or 2, which has all keys in their bucket and no holes, is taken over at the start.
const version = "3"

func isOld(found []byte) bool { return string(found) == "1" || string(found) == "2" }

// maxHoles is how many holes the file remembers: the latest ones.
const maxHoles = 1000

// flags of a message
const (
	endFlag = 1 << iota
	replaceFlag
	timeFlag
	keyFlag
)

var (
	errUnreadable = errors.New("a record cannot be read")
	errLocked     = errors.New("another process has it")
)

// state is what the file knows of itself.
type state struct {
	epoch string
	last  uint64 // number of the last message that was stored
	noted uint64 // messages up to this number are accounted for in the other buckets
	floor uint64 // history.Changes.Forgotten
	count uint64 // records in all buckets but the main one
	sum   uint64 // of their hashes, in any order
}

func (s state) encode() []byte {
	var b []byte
	for _, n := range []uint64{s.last, s.noted, s.floor, s.count, s.sum} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = append(b, s.epoch...)
	return binary.BigEndian.AppendUint64(b, xxhash.Sum64(b))
}

func decodeState(b []byte) (s state, err error) {
	if len(b) < 6*8 {
		return s, errUnreadable
	}
	body, sum := b[:len(b)-8], binary.BigEndian.Uint64(b[len(b)-8:])
	if xxhash.Sum64(body) != sum {
		return s, errors.New("the checksum of its state is wrong")
	}
	for i, field := range []*uint64{&s.last, &s.noted, &s.floor, &s.count, &s.sum} {
		*field = binary.BigEndian.Uint64(body[8*i:])
	}
	s.epoch = string(body[5*8:])
	return s, nil
}

func encodeNumber(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func decodeNumber(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, errUnreadable
	}
	return binary.BigEndian.Uint64(b), nil
}

func encodeMessage(m event.Message) []byte {
	b := make([]byte, 0, 16+len(m.Topic)+len(m.Name)+len(m.Key)+len(m.Data))
	b = append(b, 0)
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
	b = binary.AppendUvarint(b, uint64(len(m.Topic)))
	b = append(b, m.Topic...)
	b = binary.AppendUvarint(b, uint64(len(m.Name)))
	b = append(b, m.Name...)
	if m.Key != "" {
		b[0] |= keyFlag
		b = binary.AppendUvarint(b, uint64(len(m.Key)))
		b = append(b, m.Key...)
	}
	return append(b, m.Data...)
}

// decodeMessage returns the message of a record. Its data is a part of the record.
func decodeMessage(key, value []byte) (m event.Message, err error) {
	if m.Number, err = decodeNumber(key); err != nil || len(value) == 0 || value[0] >= keyFlag<<1 {
		return m, errUnreadable
	}
	m.End, m.Replace = value[0]&endFlag != 0, value[0]&replaceFlag != 0
	rest := value[1:]
	if value[0]&timeFlag != 0 {
		var size int
		if m.Time, size = binary.Varint(rest); size <= 0 {
			return m, errUnreadable
		}
		rest = rest[size:]
	}
	fields := []*string{&m.Topic, &m.Name, &m.Key}
	if value[0]&keyFlag == 0 {
		fields = fields[:2]
	}
	for _, field := range fields {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n > uint64(len(rest)-size) {
			return m, errUnreadable
		}
		*field = string(rest[size : size+int(n)])
		rest = rest[size+int(n):]
	}
	m.Data = rest
	return m, nil
}

func encodeUse(u idempotency.Use) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(u.At.UnixNano()))
	b = append(b, u.Digest[:]...)
	return append(b, u.Key...)
}

func decodeUse(key, value []byte) (u idempotency.Use, err error) {
	if u.Number, err = decodeNumber(key); err != nil || len(value) < 8+len(u.Digest) {
		return u, errUnreadable
	}
	u.At = time.Unix(0, int64(binary.BigEndian.Uint64(value)))
	u.Digest = idempotency.Digest(value[8 : 8+len(u.Digest)])
	u.Key = string(value[8+len(u.Digest):])
	return u, nil
}

// historyKey returns the key of a history's record. It is never empty, as the key of the default topic is.
func historyKey(key string) []byte { return append([]byte{'='}, key...) }

func encodeHistory(t history.Past) []byte {
	return binary.BigEndian.AppendUint64(encodeNumber(t.Lost), t.Ended)
}

func decodeHistory(key, value []byte) (t history.Past, err error) {
	if len(key) == 0 || len(value) != 16 {
		return t, errUnreadable
	}
	t.Topic = string(key[1:])
	t.Lost, t.Ended = binary.BigEndian.Uint64(value), binary.BigEndian.Uint64(value[8:])
	return t, nil
}

func decodeHole(key, value []byte) (hole history.Hole, err error) {
	if hole.Last, err = decodeNumber(key); err != nil {
		return hole, err
	}
	hole.First, err = decodeNumber(value)
	return hole, err
}

// records changes the records of one transaction, and the state with them.
type records struct {
	tx    *bolt.Tx
	state state
	plain []byte // for hashing
}

// open reads the state that a transaction begins with. After a commit that failed on its last step, that may be the
// state of that commit.
func open(tx *bolt.Tx) (*records, error) {
	for _, name := range [][]byte{mainBucket, messagesBucket, keysBucket, historiesBucket} {
		if tx.Bucket(name) == nil {
			return nil, fmt.Errorf("it has no %s", name)
		}
	}
	r := &records{tx: tx}
	var err error
	r.state, err = decodeState(tx.Bucket(mainBucket).Get(stateKey))
	return r, err
}

// hash is different for each record.
func (r *records) hash(bucket, key, value []byte) uint64 {
	r.plain = append(append(append(r.plain[:0], bucket[0]), key...), value...)
	return xxhash.Sum64(r.plain)
}

// set adds a record, which may be there already.
func (r *records) set(bucket, key, value []byte) error {
	if err := r.delete(bucket, key); err != nil {
		return err
	}
	return r.add(bucket, key, value)
}

// leave notes a hole, and forgets the oldest of too many.
func (r *records) leave(hole history.Hole) error {
	if b := r.tx.Bucket(holesBucket); b.Stats().KeyN >= maxHoles {
		oldest, _ := b.Cursor().First()
		if err := r.delete(holesBucket, oldest); err != nil {
			return err
		}
	}
	return r.set(holesBucket, encodeNumber(hole.Last), encodeNumber(hole.First))
}

// add adds a record that is not there yet.
func (r *records) add(bucket, key, value []byte) error {
	r.state.count++
	r.state.sum += r.hash(bucket, key, value)
	b := r.tx.Bucket(bucket)
	b.FillPercent = 0.9 // numbers rise
	return b.Put(key, value)
}

// delete deletes a record if it is there.
func (r *records) delete(bucket, key []byte) error {
	c := r.tx.Bucket(bucket).Cursor()
	found, value := c.Seek(key)
	if !bytes.Equal(found, key) {
		return nil
	}
	return r.remove(c, bucket, found, value)
}

// deleteRange deletes the records of a bucket whose numbers are from first to last.
func (r *records) deleteRange(bucket []byte, first, last uint64) error {
	c := r.tx.Bucket(bucket).Cursor()
	for {
		key, value := c.Seek(encodeNumber(first))
		if key == nil {
			return nil
		}
		if number, err := decodeNumber(key); err != nil || number > last {
			return err
		}
		if err := r.remove(c, bucket, key, value); err != nil {
			return err
		}
	}
}

// remove deletes the record at the cursor.
func (r *records) remove(c *bolt.Cursor, bucket, key, value []byte) error {
	r.state.count--
	r.state.sum -= r.hash(bucket, key, value)
	return c.Delete()
}

func (r *records) save() error { return r.tx.Bucket(mainBucket).Put(stateKey, r.state.encode()) }
