package cluster

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// part is something that a replica needs, and that may not work.
type part int

const (
	following  part = iota // the hub gets all messages that its clients wait for
	answering              // NATS answers
	publishing             // NATS stores messages
	parts
)

var recovered = [parts]string{"messages come from NATS again", "NATS answers again", "NATS stores messages again"}

// silentFor is how long NATS may give no answer.
const silentFor = 4500 * time.Millisecond

// kind is a kind of event that may happen often: bad input, or messages that somebody removes.
type kind int

const (
	badMessage kind = iota
	badSubject
	badName
	removal
	kinds
)

const oftenEvery = time.Minute // how often a kind of event is logged

// status is what an operator can know of a replica. Each problem is logged once when it begins, and its end once: each
// retry fails in the same way.
type status struct {
	log      *slog.Logger
	stopping context.Context // ends when the replica is to stop; what fails then is not logged
	silence  *time.Timer     // runs out when NATS has not answered for silentFor

	statusMu sync.Mutex
	problems [parts]string   // what does not work, or empty
	told     map[string]bool // what was logged since all was well
	often    [kinds]struct {
		count int       // since it was last logged
		since time.Time // when that was
	}
}

// problem returns what does not work, or the empty string.
func (s *status) problem() string {
	s.statusMu.Lock()
	defer s.statusMu.Unlock()
	return cmp.Or(s.problems[:]...)
}

func (s *status) problemOf(p part) string {
	s.statusMu.Lock()
	defer s.statusMu.Unlock()
	return s.problems[p]
}

// answered notes that NATS answers.
func (s *status) answered() {
	s.silence.Reset(silentFor)
	s.report(answering, "")
}

// setProblem sets what does not work, without a line in the log.
func (s *status) setProblem(p part, problem string) {
	s.statusMu.Lock()
	defer s.statusMu.Unlock()
	s.problems[p] = problem
}

// report sets what does not work, and logs it. The empty string means that all is well.
func (s *status) report(p part, problem string) {
	s.statusMu.Lock()
	ends := problem == "" && s.problems[p] != "" && len(s.told) > 0
	s.problems[p] = problem
	s.statusMu.Unlock()
	switch {
	case strings.HasPrefix(problem, "NATS"):
		s.tell(problem)
	case problem != "":
		s.tell("NATS: " + problem)
	case ends:
		s.forget()
		s.info("%s", recovered[p])
	}
}

// tell logs a problem, unless it did so since all was well.
func (s *status) tell(problem string) {
	const most = 100
	s.statusMu.Lock()
	told := s.told[problem]
	if s.told == nil || len(s.told) > most {
		s.told = map[string]bool{}
	}
	s.told[problem] = true
	s.statusMu.Unlock()
	if !told {
		s.warn("%s", problem)
	}
}

// forget has problems logged again.
func (s *status) forget() {
	s.statusMu.Lock()
	defer s.statusMu.Unlock()
	clear(s.told)
}

// tally counts what may happen often, and logs it once a minute.
func (s *status) tally(k kind, subject, why string) {
	s.statusMu.Lock()
	kind := &s.often[k]
	kind.count++
	count := kind.count
	isDue := time.Since(kind.since) >= oftenEvery
	if isDue {
		kind.count, kind.since = 0, time.Now()
	}
	s.statusMu.Unlock()
	if isDue {
		s.warn("NATS: on the subject %.250q: %s (%d times since the last such line)", subject, why, count)
	}
}

func (s *status) warn(format string, args ...any) { s.write(slog.LevelWarn, format, args...) }
func (s *status) info(format string, args ...any) { s.write(slog.LevelInfo, format, args...) }

func (s *status) write(level slog.Level, format string, args ...any) {
	if s.stopping.Err() == nil {
		s.log.Log(s.stopping, level, fmt.Sprintf(format, args...))
	}
}
