package journal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
	"os"
	"slices"
)

// inspect checks the structure of the file before bbolt maps it into memory. bbolt trusts what it finds there: a wrong
// page number or length would end the process, a wrong list of free pages would overwrite messages later, and an
// unreadable first page would silently take back the last transaction. bbolt's own check (Tx.Check) is no way out, because
// it reads the same pages with the same trust: of ten files with a damaged page, it crashed on six.
func inspect(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	meta0, err := readMeta(f, 0)
	if err != nil {
		return err
	}
	meta1, err := readMeta(f, int64(meta0.pageSize))
	if err != nil {
		return err
	}
	newest := meta0
	if meta1.transaction > meta0.transaction {
		newest = meta1
	}
	if meta0.pageSize != meta1.pageSize || newest.pages > uint64(info.Size())/uint64(newest.pageSize) {
		return errNotWhole
	}
	t := &tree{file: f, meta: newest, used: make([]bool, newest.pages)}
	t.used[0], t.used[1] = true, true
	if err := t.walk(newest.root, nil, nil); err != nil {
		return err
	}
	return t.checkFree()
}

var (
	errNotWhole = errors.New("it is not whole")
	errPages    = errors.New("its pages do not fit together")
)

// meta is one of the two first pages of a bbolt file. A transaction writes one of them in turn.
type meta struct {
	pageSize    uint32
	root        uint64
	freelist    uint64
	pages       uint64 // in use, from the beginning of the file
	transaction uint64
}

const (
	pageHeader = 16
	metaSize   = 64
	bboltMagic = 0xED0CDAED
)

func readMeta(f io.ReaderAt, offset int64) (m meta, err error) {
	b := make([]byte, metaSize)
	if _, err := f.ReadAt(b, offset+pageHeader); errors.Is(err, io.EOF) {
		return m, errNotWhole
	} else if err != nil {
		return m, err
	}
	native := binary.NativeEndian
	sum := fnv.New64a()
	sum.Write(b[:metaSize-8])
	if native.Uint32(b) != bboltMagic || native.Uint32(b[4:]) != 2 || native.Uint64(b[metaSize-8:]) != sum.Sum64() {
		return m, errors.New("its beginning is none that gin-sse writes")
	}
	m = meta{native.Uint32(b[8:]), native.Uint64(b[16:]), native.Uint64(b[32:]), native.Uint64(b[40:]), native.Uint64(b[48:])}
	if m.pages < 4 || m.pageSize < 512 || m.pageSize > 1<<24 {
		return m, errors.New("its page size is none that gin-sse writes")
	}
	return m, nil
}

// tree checks the pages that a transaction can reach.
type tree struct {
	file io.ReaderAt
	meta meta
	used []bool // for each page, whether it was met
}

// Kinds of pages.
const (
	branchPage   = 1
	leafPage     = 2
	freelistPage = 16
)

// page returns the page with that number and those that continue it, and marks them as used.
func (t *tree) page(number uint64) (b []byte, kind uint16, err error) {
	if number < 2 || number >= t.meta.pages {
		return nil, 0, errPages
	}
	size := int64(t.meta.pageSize)
	header := make([]byte, pageHeader)
	if _, err := t.file.ReadAt(header, int64(number)*size); err != nil {
		return nil, 0, err
	}
	more := uint64(binary.NativeEndian.Uint32(header[12:]))
	if binary.NativeEndian.Uint64(header) != number || more >= t.meta.pages-number {
		return nil, 0, errPages
	}
	for i := number; i <= number+more; i++ {
		if t.used[i] {
			return nil, 0, errPages
		}
		t.used[i] = true
	}
	b = make([]byte, int64(more+1)*size)
	if _, err := t.file.ReadAt(b, int64(number)*size); err != nil {
		return nil, 0, err
	}
	return b, binary.NativeEndian.Uint16(b[8:]), nil
}

// walk checks a page of keys and all pages below it. Its keys rise from min, and stay below max unless that is nil.
func (t *tree) walk(number uint64, min, max []byte) error {
	b, kind, err := t.page(number)
	switch {
	case err != nil:
		return err
	case kind == branchPage:
		return t.branch(b, min, max)
	case kind == leafPage:
		return t.leaf(b, min, max)
	}
	return errPages
}

// elements calls do for each element of a page, with the part of the page where the element begins.
func elements(b []byte, size int, do func(i int, element []byte) error) error {
	count := int(binary.NativeEndian.Uint16(b[10:]))
	if pageHeader+count*size > len(b) {
		return errPages
	}
	for i := range count {
		if err := do(i, b[pageHeader+i*size:]); err != nil {
			return err
		}
	}
	return nil
}

// part returns the bytes of an element from there on.
func part(element []byte, from, size uint64) ([]byte, error) {
	if from+size > uint64(len(element)) {
		return nil, errPages
	}
	return element[from : from+size], nil
}

func (t *tree) branch(b, min, max []byte) error {
	var keys [][]byte
	var children []uint64
	native := binary.NativeEndian
	err := elements(b, 16, func(_ int, element []byte) error {
		key, err := part(element, uint64(native.Uint32(element)), uint64(native.Uint32(element[4:])))
		keys, children = append(keys, key), append(children, native.Uint64(element[8:]))
		return err
	})
	if err != nil || len(keys) == 0 || !rise(keys, min, max) {
		return cmp.Or(err, errPages)
	}
	for i, child := range children {
		below := max
		if i+1 < len(keys) {
			below = keys[i+1]
		}
		if err := t.walk(child, keys[i], below); err != nil {
			return err
		}
	}
	return nil
}

// leaf checks a page of records. A record may be a bucket: a tree of its own, or a page within the record.
func (t *tree) leaf(b, min, max []byte) error {
	var keys [][]byte
	native := binary.NativeEndian
	err := elements(b, 16, func(_ int, element []byte) error {
		from, length := uint64(native.Uint32(element[4:])), uint64(native.Uint32(element[8:]))
		key, err := part(element, from, length)
		if err != nil {
			return err
		}
		keys = append(keys, key)
		value, err := part(element, from+length, uint64(native.Uint32(element[12:])))
		switch flags := native.Uint32(element); {
		case err != nil || flags == 0:
			return err
		case flags != 1 || len(value) < 16:
			return errPages
		}
		if root := native.Uint64(value); root > 0 {
			return t.walk(root, nil, nil)
		}
		if value = value[16:]; len(value) < pageHeader || native.Uint16(value[8:]) != leafPage {
			return errPages
		}
		return t.leaf(value, nil, nil)
	})
	if err == nil && !rise(keys, min, max) {
		return errPages
	}
	return err
}

// rise reports whether keys rise from min, and stay below max unless that is nil.
func rise(keys [][]byte, min, max []byte) bool {
	for i, key := range keys {
		if i > 0 && bytes.Compare(keys[i-1], key) >= 0 || bytes.Compare(key, min) < 0 || max != nil && bytes.Compare(key, max) >= 0 {
			return false
		}
	}
	return true
}

// checkFree checks that the list of free pages has exactly the pages that were not met.
func (t *tree) checkFree() error {
	b, kind, err := t.page(t.meta.freelist)
	if err != nil {
		return err
	}
	native := binary.NativeEndian
	count, list := uint64(native.Uint16(b[10:])), b[pageHeader:]
	if count == 0xFFFF { // then the first number is the count
		count, list = native.Uint64(list), list[8:]
	}
	if kind != freelistPage || count > uint64(len(list)/8) {
		return errPages
	}
	for i := range count {
		number := native.Uint64(list[8*i:])
		if number >= t.meta.pages || t.used[number] {
			return errPages
		}
		t.used[number] = true
	}
	if slices.Contains(t.used, false) {
		return errPages
	}
	return nil
}
