package clock

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// record runs a clock for d of virtual time, calls step at the given moments in it, and returns the
// ticks, with the monotonic time since the start at which each came.
func record(t *testing.T, interval, d time.Duration, now func() time.Time, steps map[time.Duration]func()) (ticks []time.Time, at []time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	start := time.Now()
	for after, step := range steps {
		time.AfterFunc(after, step)
	}
	run(ctx, interval, now, func(tick time.Time) {
		ticks = append(ticks, tick)
		at = append(at, time.Since(start))
	})
	return ticks, at
}

// seconds gives the ticks as seconds after the start of virtual time, and fails if one is not on the second.
func seconds(t *testing.T, ticks []time.Time) []int {
	t.Helper()
	epoch := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	var s []int
	for _, tick := range ticks {
		if tick.Nanosecond() != 0 {
			t.Errorf("tick at %v is not on the second", tick)
		}
		s = append(s, int(tick.Sub(epoch)/time.Second))
	}
	return s
}

func TestTicksLandOnTheSecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(300 * time.Millisecond) // start between two seconds
		ticks, at := record(t, time.Second, 5*time.Second, time.Now, nil)
		if got, want := seconds(t, ticks), []int{1, 2, 3, 4, 5}; !slices.Equal(got, want) {
			t.Errorf("ticks at seconds %v, want %v", got, want)
		}
		if at[0] != 700*time.Millisecond {
			t.Errorf("first tick after %v, want 700ms", at[0])
		}
	})
}

func TestLongAndShortIntervalsAreAligned(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		interval, run time.Duration
		ticks         int
	}{
		{time.Minute, 10 * time.Minute, 10},
		{time.Hour, 24 * time.Hour, 24},
		{10 * time.Millisecond, time.Second, 100},
	} {
		t.Run(test.interval.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ticks, at := record(t, test.interval, test.run+time.Millisecond, time.Now, nil)
				if len(ticks) != test.ticks {
					t.Fatalf("%d ticks in %v, want %d", len(ticks), test.run, test.ticks)
				}
				for i := range ticks {
					if want := time.Duration(i+1) * test.interval; at[i] != want {
						t.Errorf("tick %d after %v, want %v", i, at[i], want)
					}
				}
			})
		})
	}
}

func TestSetOrSleepingClockNeitherRepeatsNorBursts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		jump time.Duration // of the wall clock, 2.5 s after the start
		want []int         // ticks of the first 6 s
	}{
		{"forward an hour, or a sleep of an hour", time.Hour, []int{1, 2, 3603, 3604, 3605, 3606}},
		{"forward by less than a second", 300 * time.Millisecond, []int{1, 2, 3, 4, 5, 6}},
		{"back by less than a second", -300 * time.Millisecond, []int{1, 2, 3, 4, 5}},
		{"back two seconds is waited for", -2 * time.Second, []int{1, 2, 3, 4}},
		{"back an hour is followed", -time.Hour, []int{1, 2, -3597, -3596, -3595, -3594}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var offset atomic.Int64
				now := func() time.Time { return time.Now().Add(time.Duration(offset.Load())).Round(0) }
				ticks, at := record(t, time.Second, 6*time.Second+time.Millisecond, now, map[time.Duration]func(){
					2500 * time.Millisecond: func() { offset.Store(int64(test.jump)) },
				})
				if got := seconds(t, ticks); !slices.Equal(got, test.want) {
					t.Errorf("ticks at seconds %v, want %v", got, test.want)
				}
				for i := 1; i < len(at); i++ {
					if at[i] == at[i-1] {
						t.Errorf("ticks %d and %d came at once", i-1, i)
					}
				}
			})
		})
	}
}

func TestStoppedProcessMakesUpForNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
		defer cancel()
		var ticks []time.Time
		run(ctx, time.Second, time.Now, func(tick time.Time) {
			ticks = append(ticks, tick)
			if len(ticks) == 3 {
				time.Sleep(30*time.Second + 400*time.Millisecond) // nothing of the process runs
			}
		})
		// Second 33 is shown late, as the process was stopped when it began.
		if got, want := seconds(t, ticks), []int{1, 2, 3, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44}; !slices.Equal(got[:len(want)], want) {
			t.Errorf("ticks at seconds %v, want %v", got, want)
		}
	})
}

func TestTicksAreInTheLocalZone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ticks, _ := record(t, time.Second, 1500*time.Millisecond, time.Now, nil)
		if len(ticks) != 1 || ticks[0].Location() != time.Local {
			t.Errorf("ticks %v, want one in the local zone", ticks)
		}
	})
}

func TestIntervalOfZeroNeverTicksAndEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for _, interval := range []time.Duration{0, -time.Second} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			Run(ctx, interval, func(time.Time) { t.Error("it ticked") })
			if ctx.Err() == nil {
				t.Error("it returned before its context ended")
			}
		})
	}
}
