//go:build linux

package main

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// everybody is the user of messages to the topic news.
const everybody = -1

// message is what is published: [user,number,posted].
type message struct {
	user   int
	number int       // 1 for the first message to this user, and so on
	posted time.Time // for the first time
}

func (m message) topic() string {
	if m.user == everybody {
		return "news"
	}
	return fmt.Sprint("users/", m.user)
}

func (m message) data() string {
	return fmt.Sprintf("[%d,%d,%d]", m.user, m.number, m.posted.UnixMicro())
}

// messageOf is the opposite of data. It makes no garbage, as it is called for every delivery.
func messageOf(data []byte) (m message, err error) {
	fail := func() (message, error) { return message{}, fmt.Errorf("not a message: %q", data) }
	inside, ok := bytes.CutPrefix(data, []byte("["))
	inside, closed := bytes.CutSuffix(inside, []byte("]"))
	user, rest, found := bytes.Cut(inside, []byte(","))
	number, posted, more := bytes.Cut(rest, []byte(","))
	if !ok || !closed || !found || !more {
		return fail()
	}
	at, err := strconv.ParseInt(string(posted), 10, 64)
	if err != nil {
		return fail()
	}
	m.posted = time.UnixMicro(at)
	if m.user, err = strconv.Atoi(string(user)); err != nil {
		return fail()
	}
	if m.number, err = strconv.Atoi(string(number)); err != nil {
		return fail()
	}
	return m, nil
}
