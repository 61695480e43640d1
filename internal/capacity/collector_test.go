package capacity

import "testing"

func TestTheHeapMayGrowLessForTheHistoryThanForTheRest(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		history, live int64
		want          int
	}{
		{0, 0, 100},
		{0, 50 << 20, 100},
		{8 << 20, 12 << 20, 100}, // what even a small one keeps
		{80 << 20, 80 << 20, 29},
		{80 << 20, 10 << 20, 29}, // the collector has not seen the messages yet
		{70 << 20, 700 << 20, 93},
	} {
		if got := growth(test.history, test.live); got != test.want {
			t.Errorf("%d bytes of history in a heap of %d: %d percent, want %d", test.history, test.live, got, test.want)
		}
	}
}
