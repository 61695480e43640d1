//go:build linux

package main

import (
	"encoding/json"
	"math"
	"sync/atomic"
	"time"
)

// histogram counts durations in steps of one per cent, from a microsecond to eight minutes. Any number of goroutines
// may add to it.
type histogram struct{ counts [2000]atomic.Int64 }

func (h *histogram) add(d time.Duration) {
	step := int(100 * math.Log(float64(max(d, time.Microsecond))/float64(time.Microsecond)))
	h.counts[min(step, len(h.counts)-1)].Add(1)
}

func (h *histogram) count() (n int64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// quantile returns the duration that a fraction q of all do not exceed, or 0 if there are none.
func (h *histogram) quantile(q float64) time.Duration {
	rank := int64(math.Ceil(q * float64(h.count())))
	for i := range h.counts {
		n := h.counts[i].Load()
		if rank -= n; n > 0 && rank <= 0 {
			return time.Duration(math.Exp(float64(i+1)/100) * float64(time.Microsecond))
		}
	}
	return 0
}

func (h *histogram) MarshalJSON() ([]byte, error) {
	counts := make(map[int]int64)
	for i := range h.counts {
		if n := h.counts[i].Load(); n > 0 {
			counts[i] = n
		}
	}
	return json.Marshal(counts)
}

func (h *histogram) UnmarshalJSON(text []byte) error {
	var counts map[int]int64
	if err := json.Unmarshal(text, &counts); err != nil {
		return err
	}
	for i, n := range counts {
		h.counts[i].Store(n)
	}
	return nil
}

// merge adds the counts of another one.
func (h *histogram) merge(other *histogram) {
	for i := range h.counts {
		h.counts[i].Add(other.counts[i].Load())
	}
}
