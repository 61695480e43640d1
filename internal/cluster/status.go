package cluster

import (
	"fmt"
	"sync"
	"time"
)

// part is something that a replica does, and that may not work.
type part int

const (
	following  part = iota // the hub gets all messages that its clients wait for
	publishing             // NATS stores messages
	parts
)

var recovered = [parts]string{"messages come from NATS again", "NATS stores messages again"}

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
	log      func(format string, args ...any)
	statusMu sync.Mutex
	problems [parts]string   // what does not work, or empty
	logged   [parts]bool     // whether that is in the log
	told     map[string]bool // what was logged since all was well
	answer   time.Time       // when NATS last answered
	often    [kinds]struct {
		count int       // since it was last logged
		since time.Time // when that was
	}
}

// problem returns what does not work, or the empty string.
func (s *status) problem() string {
	s.statusMu.Lock()
	defer s.statusMu.Unlock()
	switch {
	case s.problems[following] != "":
		return s.problems[following]
	case time.Since(s.answer) > silentFor:
		return silence
	}
	return s.problems[publishing]
}

const silence = "NATS does not answer"

func (s *status) problemOf(p part) string {
	s.statusMu.Lock()
	defer s.statusMu.Unlock()
	return s.problems[p]
}

// answered notes that NATS answers.
func (s *status) answered() {
	s.statusMu.Lock()
	was := s.told[silence]
	s.answer = time.Now()
	delete(s.told, silence)
	s.statusMu.Unlock()
	if was {
		s.log("NATS answers again")
	}
}

// listenForSilence logs if NATS has not answered for a while.
func (s *status) listenForSilence() {
	s.statusMu.Lock()
	silent := time.Since(s.answer) > silentFor
	s.statusMu.Unlock()
	if silent {
		s.tell(silence)
	}
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
	ends := problem == "" && s.logged[p]
	s.problems[p], s.logged[p] = problem, problem != ""
	s.statusMu.Unlock()
	switch {
	case problem != "":
		s.tell(fmt.Sprintf("NATS: %s", problem))
	case ends:
		s.forget()
		s.log("%s", recovered[p])
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
		s.log("%s", problem)
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
		s.log("NATS: on the subject %.250q: %s (%d times since the last such line)", subject, why, count)
	}
}
