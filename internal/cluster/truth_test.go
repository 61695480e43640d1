package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func at(second int64) time.Time { return time.Unix(1_800_000_000+second, 0) }

func TestEveryAnswerIsComparedWithWhatIsKnown(t *testing.T) {
	t.Parallel()
	first, later := at(0), at(1)
	known := place{number: 80, stored: at(80), key: "k80"}
	sent := place{number: 80, key: "k80"} // NATS has acknowledged it, and did not say when it was stored
	for name, test := range map[string]struct {
		proof place
		answer
		want verdict
	}{
		"the stream has grown":                          {known, answer{source: info, created: first, known: 80, place: place{number: 90}}, goesOn},
		"the stream is as it was":                       {known, answer{source: info, created: first, known: 80, place: place{number: 80}}, goesOn},
		"it ends before":                                {known, answer{source: info, created: first, known: 80, place: place{number: 79}}, wentBack},
		"it ended before when it was asked":             {known, answer{source: info, created: first, known: 79, place: place{number: 79}}, goesOn},
		"it was made at another time":                   {known, answer{source: info, created: later, known: 80, place: place{number: 90}}, isAnother},
		"what was sent has the next number":             {known, answer{source: acknowledgement, known: 80, place: place{number: 81, key: "k"}}, goesOn},
		"what was sent has a number that was given":     {known, answer{source: acknowledgement, known: 80, place: place{number: 80, key: "k80"}}, wentBack},
		"what was sent is acknowledged late":            {known, answer{source: acknowledgement, known: 70, place: place{number: 75, key: "k75"}}, goesOn},
		"a key was used before":                         {known, answer{source: acknowledgement, place: place{number: 3, key: "k3"}}, goesOn},
		"a message follows":                             {known, answer{source: live, previous: 80, before: 80, place: place{number: 81, stored: at(81), key: noKey}}, goesOn},
		"a message follows one that did not come":       {known, answer{source: live, previous: 82, before: 80, place: place{number: 83, stored: at(83), key: noKey}}, hasHole},
		"a message comes twice":                         {known, answer{source: live, previous: 79, before: 80, place: known}, goesOn},
		"a message has the number of another one":       {known, answer{source: live, previous: 79, before: 80, place: place{number: 80, stored: at(99), key: noKey}}, wentBack},
		"the message is still there":                    {known, answer{source: fetched, place: known}, goesOn},
		"the message is another one":                    {known, answer{source: fetched, place: place{number: 80, stored: at(99), key: "k80"}}, wentBack},
		"what was sent is still there":                  {sent, answer{source: fetched, place: known}, goesOn},
		"what was sent is another message":              {sent, answer{source: fetched, place: place{number: 80, stored: at(80), key: noKey}}, wentBack},
		"what came since has a higher number":           {known, answer{source: sinceThen, place: place{number: 95, stored: at(95), key: noKey}}, goesOn},
		"what came since has a lower number":            {known, answer{source: sinceThen, place: place{number: 40, stored: at(95), key: noKey}}, wentBack},
		"nothing is known, and the stream has messages": {place{}, answer{source: info, created: first, place: place{number: 90}}, goesOn},
	} {
		truth := truth{created: first, highest: test.proof.number, proof: test.proof}
		if got := truth.learn(test.answer); got != test.want {
			t.Errorf("%s: verdict %d, want %d", name, got, test.want)
		}
		highest, proof := test.proof.number, test.proof
		if test.want <= hasHole {
			highest = max(highest, test.number)
		}
		if test.want <= hasHole && test.key != "" && test.number >= proof.number {
			proof = test.place
		}
		if _, _, now := truth.now(); now != highest || truth.toProve() != proof {
			t.Errorf("%s: the highest number is %d, with %v as the proof; want %d and %v", name, now, truth.toProve(), highest, proof)
		}
	}
}

func TestMarkers(t *testing.T) {
	t.Parallel()
	p := place{number: 7, stored: at(0)}
	for _, test := range []struct {
		data, floor string
		want        marker
	}{
		{"abc1", "3", marker{"abc1", 7, 3, at(0)}},
		{"abc1", "", marker{"abc1", 7, 0, at(0)}},
		{"abc1", "-1", marker{"abc1", 7, 0, at(0)}},
		{"abc1", "100", marker{"abc1", 7, 7, at(0)}},
		{"", "3", marker{base36(at(0)), 7, 3, at(0)}},
		{"Not a name", "x", marker{base36(at(0)), 7, 0, at(0)}},
		{strings.Repeat("a", 33), "", marker{base36(at(0)), 7, 0, at(0)}},
	} {
		if got := markerIn(received{Msg: &nats.Msg{Data: []byte(test.data), Header: nats.Header{floorHeader: {test.floor}}}, place: p}); got != test.want {
			t.Errorf("%q with the floor %q is %v, want %v", test.data, test.floor, got, test.want)
		}
	}
	known := marker{name: "a", number: 9, stored: at(5)}
	for _, test := range []struct {
		marker
		want bool
	}{
		{marker{name: "b", number: 10, stored: at(6)}, true},
		{marker{name: "b", number: 3, stored: at(6)}, true},  // the stream went back, and another replica has named an epoch
		{marker{name: "b", number: 3, stored: at(4)}, false}, // the stream went back
		{marker{name: "a", number: 10, stored: at(6)}, false},
		{marker{}, false},
	} {
		if test.isAfter(known) != test.want {
			t.Errorf("%v is after %v: %t", test.marker, known, !test.want)
		}
	}
}

func TestMarkerIsRenewedInTimeByOneReplicaAfterTheOther(t *testing.T) {
	t.Parallel()
	m := marker{name: "a", number: 100, stored: at(0)}
	stream := func(first, last uint64, age int64, config jetstream.StreamConfig) *jetstream.StreamInfo {
		return &jetstream.StreamInfo{Config: config, State: jetstream.StreamState{FirstSeq: first, LastSeq: last}, TimeStamp: at(age)}
	}
	hour := jetstream.StreamConfig{MaxAge: time.Hour}
	some := jetstream.StreamConfig{MaxMsgs: 100}
	for name, test := range map[string]struct {
		stream     *jetstream.StreamInfo
		soon, late bool // for the first replica, and for the last one
	}{
		"nothing limits the stream":   {stream(1, 1_000_000, 1_000_000, jetstream.StreamConfig{}), false, false},
		"it is young":                 {stream(1, 200, 1700, hour), false, false},
		"it is half as old as it may": {stream(1, 200, 1900, hour), true, false},
		"it is nearly too old":        {stream(1, 200, 2800, hour), true, true},
		"it is the last message":      {stream(1, 100, 2800, hour), false, false},
		"the stream is not full":      {stream(1, 200, 0, some), false, false},
		"it is in the newer half":     {stream(40, 140, 0, some), false, false},
		"it is in the older half":     {stream(60, 160, 0, some), true, false},
		"it is nearly the oldest":     {stream(90, 190, 0, some), true, true},
	} {
		if soon, late := m.isDue(test.stream, 0), m.isDue(test.stream, 1); soon != test.soon || late != test.late {
			t.Errorf("%s: due %t for the first replica and %t for the last one", name, soon, late)
		}
	}
}

func TestMessagesThatNATSDidNotSendOnAreKnown(t *testing.T) {
	t.Parallel()
	good := nats.Header{
		jetstream.StreamHeader: {"sse"}, jetstream.SubjectHeader: {"sse.a"}, jetstream.SequenceHeader: {"7"},
		jetstream.LastSequenceHeader: {"3"}, jetstream.TimeStampHeaer: {at(0).UTC().Format(time.RFC3339Nano)},
	}
	r := &Replica{cfg: Config{Stream: "sse"}}
	check := func(subject, header string, values ...string) error {
		m := &nats.Msg{Subject: subject, Header: nats.Header{}}
		for name, values := range good {
			m.Header[name] = values
		}
		if header != "" {
			m.Header[header] = values
		}
		got, err := receive(m)
		if err == nil {
			err = r.isPlausible(got)
		}
		return err
	}
	for _, err := range []error{
		check("sse-live.sse.a", ""),
		check("sse-live.sse.a", jetstream.SequenceHeader, "of the publisher", "7"),
		check("sse-live.sse.a", jetstream.LastSequenceHeader, "0"),
	} {
		if err != nil {
			t.Errorf("a message of NATS: %v", err)
		}
	}
	for _, bad := range []struct{ subject, header, value string }{
		{"sse-live.sse.b", "", ""},
		{"sse-live.sse.a", jetstream.StreamHeader, "other"},
		{"sse-live.sse.a", jetstream.SubjectHeader, "sse.b"},
		{"sse-live.sse.a", jetstream.SequenceHeader, ""},
		{"sse-live.sse.a", jetstream.SequenceHeader, "0"},
		{"sse-live.sse.a", jetstream.SequenceHeader, "-7"},
		{"sse-live.sse.a", jetstream.SequenceHeader, "18446744073709551616"},
		{"sse-live.sse.a", jetstream.LastSequenceHeader, "7"},
		{"sse-live.sse.a", jetstream.LastSequenceHeader, "x"},
		{"sse-live.sse.a", jetstream.TimeStampHeaer, "yesterday"},
	} {
		if check(bad.subject, bad.header, bad.value) == nil {
			t.Errorf("a message on %s with %s: %q passes", bad.subject, bad.header, bad.value)
		}
	}
}

func TestNATSIsAskedAboutAMessageThatCannotBeBelieved(t *testing.T) {
	t.Parallel()
	const last = 1000
	for name, test := range map[string]struct {
		number      uint64
		asOf, asked time.Duration // how long ago
		patience    time.Duration
		isAhead     bool
	}{
		"messages come one after the other":          {last + 5, 400 * time.Millisecond, 400 * time.Millisecond, 0, false},
		"it comes after a pause":                     {last + 1, time.Minute, time.Minute, confirmWait, false},
		"it comes after a pause, and NATS is asked":  {last + 1, time.Minute, 0, 0, false},
		"it is far ahead":                            {last + maxAhead + 1, time.Second, time.Second, answerWait, true},
		"it is far ahead, and NATS has just denied":  {last + maxAhead + 1, 0, 0, 0, true},
		"it is far ahead, and NATS is being asked":   {last + maxAhead + 1, time.Second, 0, answerWait, true},
		"it is as far ahead as may be without doubt": {last + maxAhead, 400 * time.Millisecond, 0, 0, false},
	} {
		now := at(0)
		s := sight{&jetstream.StreamInfo{State: jetstream.StreamState{LastSeq: last}}, now.Add(-test.asOf), now.Add(-test.asked)}
		if patience, isAhead := s.patience(test.number, now); patience != test.patience || isAhead != test.isAhead {
			t.Errorf("%s: %v, ahead: %t; want %v, %t", name, patience, isAhead, test.patience, test.isAhead)
		}
	}
}
