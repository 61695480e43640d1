//go:build linux

package main

import (
	"context"
	"time"
)

// plan is when what happens. All processes have the same one.
type plan struct {
	Begin, End  time.Time // of publishing
	ReplicaDies time.Time
	NATSDies    time.Time
	Down        time.Duration // after which it is started again
	Around      time.Duration // what happens within so long after a fault counts as its effect
}

func newPlan(s settings, begin time.Time) plan {
	return plan{
		Begin:       begin,
		End:         begin.Add(s.lasts),
		ReplicaDies: begin.Add(s.lasts / 4),
		NATSDies:    begin.Add(s.lasts / 2),
		Down:        s.down,
		Around:      min(s.lasts/4, 30*time.Second),
	}
}

// phase is a part of the time, or of the clients, for which figures are kept apart.
type phase int

const (
	calm phase = iota
	replicaDied
	natsDied
	away // messages that a client missed, and got when it was back
	phases
)

func (p phase) String() string {
	return [phases]string{"in calm", "after a replica was killed", "after a NATS server was killed", "missed by a client that was cut off"}[p]
}

// phase returns which of the first three phases something belongs to that took from one moment to another.
func (p plan) phase(from, to time.Time) phase {
	switch {
	case from.Before(p.ReplicaDies.Add(p.Around)) && !to.Before(p.ReplicaDies):
		return replicaDied
	case from.Before(p.NATSDies.Add(p.Around)) && !to.Before(p.NATSDies):
		return natsDied
	}
	return calm
}

// slot is how finely connections are counted over time.
const slot = 100 * time.Millisecond

// slots returns how many of them there are, until the clients stop.
func (p plan) slots() int { return int((p.End.Sub(p.Begin) + finish) / slot) }

// slot returns which one a moment is in.
func (p plan) slot(at time.Time) int { return min(max(0, int(at.Sub(p.Begin)/slot)), p.slots()-1) }

// wait waits until that time, or until ctx ends.
func wait(ctx context.Context, until time.Time) error {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
