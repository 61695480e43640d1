// Package clock is the one clock that all clients share.
package clock

import (
	"context"
	"time"
)

const (
	// The timer follows the monotonic clock, which stands still while the machine sleeps, and which does not
	// change when the wall clock is set. Looking at the wall clock this often detects both.
	look = time.Second

	// When the wall clock is set back by up to this much, Run waits until it has caught up, so that no tick is
	// repeated. A longer wait would look like a fault.
	patience = 10 * time.Second
)

// Run calls tick at every full interval of the wall clock (with time.Second: on the second) with
// that moment in the local time zone, and returns when ctx ends; tick is not called after that. An
// interval of 0 or less never ticks.
//
// When the machine has slept or the clock has been set, the next tick comes within a second, with the time
// of that moment; missed ticks are not made up for. If the clock was set back by at most 10 s, the ticks pause
// instead until it has caught up, so that none is repeated.
func Run(ctx context.Context, interval time.Duration, tick func(time.Time)) {
	run(ctx, interval, time.Now, tick)
}

func run(ctx context.Context, interval time.Duration, now func() time.Time, tick func(time.Time)) {
	if interval <= 0 {
		<-ctx.Done()
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	next := now().Truncate(interval).Add(interval)
	for {
		wall := now().Round(0) // drops the monotonic reading
		if next.Sub(wall) > interval+patience {
			next = wall.Truncate(interval)
		}
		timer.Reset(min(next.Sub(wall), look))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if wall = now().Round(0); !wall.Before(next) && ctx.Err() == nil {
			next = wall.Truncate(interval)
			tick(next)
			next = next.Add(interval)
		}
	}
}
