package server

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"gin-sse/internal/testwait"
)

func TestOtherErrorsThanTheLimitOfOpenFilesAreReturned(t *testing.T) {
	t.Parallel()
	s := newSpare()
	defer s.close()
	failed := errors.New("failed")
	if c, release, err := s.accept(func() (*net.TCPConn, error) { return nil, failed }); c != nil || release != nil || err != failed {
		t.Errorf("%v, %v", c, err)
	}
}

func TestTheLimitOfOpenFilesIsOneLineAMinuteThatSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]string{
		syscall.EMFILE: "LimitNOFILE=",
		syscall.ENFILE: "the system allows no more open files",
	} {
		s := newSpare()
		defer s.close()
		before := len(errorLog.Lines(want))
		for range 100 {
			s.report(fmt.Errorf("accept: %w", err))
		}
		if n := len(errorLog.Lines(want)) - before; n != 1 {
			t.Errorf("%v: %d lines", err, n)
		}
		s.reported = time.Now().Add(-reminder)
		s.report(err)
		if n := len(errorLog.Lines(want)) - before; n != 2 {
			t.Errorf("%v: %d lines after a minute", err, n)
		}
	}
}

func TestClosingEndsTheWaitForADescriptor(t *testing.T) {
	t.Parallel()
	s := newSpare()
	for s.lend() { // none ever comes back
	}
	s.wanted = 0
	waiting, closed := make(chan struct{}, 1), make(chan struct{})
	ended := make(chan error)
	go func() {
		_, _, err := s.accept(func() (*net.TCPConn, error) {
			select {
			case <-closed:
				return nil, net.ErrClosed // as a listener answers
			case waiting <- struct{}{}:
			default:
			}
			return nil, syscall.EMFILE
		})
		ended <- err
	}()
	<-waiting
	close(closed)
	s.close()
	select {
	case err := <-ended:
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	case <-time.After(testwait.Limit):
		t.Fatal("it still waits")
	}
}
