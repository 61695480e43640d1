package capacity

import (
	"math"
	"testing"
)

func TestClientsAreAsManyAsTheLimitsHold(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, test := range []struct {
		files                      uint64
		memory, history, perClient int64
		want                       uint64
	}{
		{0, 0, 64 * mib, 16 << 10, 0}, // no limit
		{1024, 0, 64 * mib, 16 << 10, 824},
		{201, 0, 64 * mib, 16 << 10, 1},
		{200, 0, 64 * mib, 16 << 10, 1},
		{10, 0, 64 * mib, 16 << 10, 1},
		{0, 256 * mib, 64 * mib, 16 << 10, (256 - 16 - 80) * 64},
		{0, 256 * mib, 64 * mib, 128 << 10, (256 - 16 - 80) * 8},
		{0, 256 * mib, 0, 16 << 10, (256 - 16) * 64},
		{0, 64 * mib, 64 * mib, 16 << 10, 64 / 8 * 64}, // the messages do not fit
		{0, 64 * mib, math.MaxInt64 / 2, 16 << 10, 64 / 8 * 64},
		{0, 1, 0, 16 << 10, 1},
		{1024, 256 * mib, 64 * mib, 16 << 10, 824},
		{1_000_000, 256 * mib, 64 * mib, 16 << 10, (256 - 16 - 80) * 64},
	} {
		if got := Clients(test.files, test.memory, test.history, test.perClient); got != test.want {
			t.Errorf("%d files and %d bytes with %d of messages and %d for each client: %d clients, want %d",
				test.files, test.memory, test.history, test.perClient, got, test.want)
		}
	}
}

func TestMessagesFitIfTheyLeaveRoomForClients(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, test := range []struct {
		history, memory int64
		want            bool
	}{
		{64 * mib, 0, true},
		{64 * mib, 110 * mib, true},
		{64 * mib, 109 * mib, false},
		{16 * mib, 64 * mib, true},
		{math.MaxInt64, 1024 * mib, false},
		{0, 16 * mib, false},
	} {
		if got := Fits(test.history, test.memory); got != test.want {
			t.Errorf("%d bytes of messages in %d: %t, want %t", test.history, test.memory, got, test.want)
		}
	}
}
