package journal

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	bolt "go.etcd.io/bbolt"
)

const (
	roomy  = 256 << 10 // a file of this size is never too large
	growth = 128 << 10 // bytes by which the file grows; bbolt's own 16 MB are many times what a small history needs
)

// file returns the path of the file in a directory, and temporary that of a file that is to replace it.
func file(dir string) string      { return filepath.Join(dir, "gin-sse.db") }
func temporary(dir string) string { return filepath.Join(dir, "gin-sse.db.new") }

// create makes an empty file.
func (j *Journal) create() error {
	return j.replace(func(db *bolt.DB) error {
		return db.Update(func(tx *bolt.Tx) error {
			main, err := tx.CreateBucket(mainBucket)
			if err != nil {
				return err
			}
			if _, err := tx.CreateBucket(recordsBucket); err != nil {
				return err
			}
			r := &records{main: main, state: state{epoch: strings.ToLower(rand.Text()[:8])}}
			return errors.Join(main.Put(versionKey, []byte(version)), r.save())
		})
	})
}

// replace puts a new file in the place of the one that there is, or of none. A crash leaves the old one or the whole new one.
func (j *Journal) replace(fill func(*bolt.DB) error) error {
	path := temporary(j.dir.Name())
	_ = os.Remove(path) // of a start that was killed
	db, err := openDatabase(path, 0)
	if err == nil {
		err = errors.Join(j.share(path), fill(db), db.Close())
	}
	if err == nil {
		err = os.Rename(path, file(j.dir.Name()))
	}
	if err != nil {
		_ = os.Remove(path) // the next start removes it, too
	}
	return err
}

// share lets a group that may write the directory write a file in it: a platform may start the server as another user of
// that group each time.
func (j *Journal) share(path string) error {
	info, err := j.dir.Stat()
	if err != nil || info.Mode().Perm()&0o020 == 0 {
		return err
	}
	return os.Chmod(path, 0o660) // to ask for it when the file is made would leave it to the umask
}

// syncDirs makes sure that the name of the file, and those of the directories above it, outlive a loss of power.
func (j *Journal) syncDirs() error {
	for path := filepath.Clean(j.dir.Name()); ; path = filepath.Dir(path) {
		dir, err := os.Open(path)
		if err != nil {
			return nil // it is not ours to read, so the server has not made what is in it
		}
		err = errors.Join(dir.Sync(), dir.Close())
		if err != nil && !errors.Is(err, syscall.EINVAL) { // a file system that cannot do that has no need of it
			return err
		}
		if path == filepath.Dir(path) {
			return nil
		}
	}
}

func openDatabase(path string, mapped int) (*bolt.DB, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait, FreelistType: bolt.FreelistMapType, NoStatistics: true, InitialMmapSize: mapped})
	if err != nil {
		return nil, err
	}
	db.AllocSize = growth
	return db, nil
}

// openFile opens the file, which must be there.
func (j *Journal) openFile() (err error) {
	path := file(j.dir.Name())
	if j.db, err = openDatabase(path, mapped); err != nil {
		return err
	}
	j.pageSize = j.db.Info().PageSize
	j.opened, err = os.Stat(path)
	return err
}

// present returns an error if the directory no longer has the file that is open. What is written to that one would be
// gone after the next start.
func (j *Journal) present() error {
	found, err := os.Stat(file(j.dir.Name()))
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(found, j.opened):
		return errors.New("gin-sse.db was removed or replaced: put it back, or start the server again")
	case err == nil && found.Size() < j.opened.Size():
		return errors.New("gin-sse.db was cut short: stop the server, put a backup in its place and start again; messages since the backup are lost, and without a backup all are")
	case err == nil:
		j.opened = found
	}
	return nil
}

// settle makes sure that what the file seems to be is on the disk. The last step of a commit writes one of the first two
// pages. If the process was killed then, or the disk failed, that page may be in the memory of the system alone, from
// where it could vanish. A sync does not help after a failure, so both pages are written again as they are.
func (j *Journal) settle() error {
	f, err := os.OpenFile(file(j.dir.Name()), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	pages := make([]byte, 2*j.pageSize)
	if _, err = f.ReadAt(pages, 0); err == nil {
		if _, err = f.WriteAt(pages, 0); err == nil {
			err = f.Sync()
		}
	}
	return errors.Join(err, f.Close())
}

// reopen opens the file again after a commit that failed, as what the database has in memory may be another state than
// that of the file.
func (j *Journal) reopen() error {
	if err := j.present(); err != nil {
		return err
	}
	if err := j.settle(); err != nil {
		return err
	}
	if j.db != nil {
		_ = j.db.Close() // it has nothing left to write
	}
	return j.openFile()
}

// shrink replaces a file that has grown far beyond what it keeps by a copy without free pages. If there is no room for
// the copy, the file stays as it is.
func (j *Journal) shrink() error {
	if j.Size() <= roomy {
		return nil
	}
	if err := j.commit(batch{last: j.last, note: true}); err != nil { // HISTORY may be smaller than before the restart
		j.fail(err, 0)
		return nil
	}
	kept := 0
	err := j.db.View(func(tx *bolt.Tx) error {
		kept = tx.Bucket(recordsBucket).Stats().LeafInuse
		return nil
	})
	if err != nil || j.Size() <= 3*int64(kept) {
		return err
	}
	if err := j.replace(func(db *bolt.DB) error { return bolt.Compact(db, j.db, 16<<20) }); err != nil {
		j.log("the file in DATA_DIR stays larger than it has to be: %v", cause(err))
		return nil
	}
	_ = j.db.Close() // it has nothing left to write
	return j.openFile()
}
