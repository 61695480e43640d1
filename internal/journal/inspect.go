package journal

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
	"os"
)

// inspect checks the structure of the file before bbolt maps it into memory. bbolt trusts what it finds there: a wrong
// page number or length would end the process, a wrong list of free pages would overwrite messages later, and an
// unreadable first page would silently take back the last transaction.
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
		return errors.New("it is not whole")
	}
	return nil
}

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
		return m, errors.New("it is not whole")
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
	if m.pageSize < 512 || m.pageSize > 1<<24 {
		return m, errors.New("its page size is none that gin-sse writes")
	}
	return m, nil
}
