//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// client follows two topics, and comes back as a browser's EventSource does. It checks every event.
type client struct {
	*crowd
	user   int
	opened func() // is called when the first stream begins

	connected atomic.Bool
	news, own atomic.Int64 // numbers of the latest messages
	Outcome

	streams int
	since   time.Time // of this stream
	cut     time.Time // the end of the stream before
	retry   time.Duration
	lastID  []byte
	epoch   []byte // of lastID
	id      uint64 // the number in lastID
}

// run ends with ctx.
func (c *client) run(ctx context.Context) {
	c.retry = time.Second // for the first attempts
	for ctx.Err() == nil {
		before := c.streams
		c.stream(ctx)
		if now := time.Now(); c.streams > before {
			c.cut = now
			c.count(ctx, false)
		}
		_ = wait(ctx, time.Now().Add(c.retry)) // the loop ends with ctx
	}
}

// count notes that a stream has begun or ended. Those that end with ctx do not count.
func (c *client) count(ctx context.Context, begun bool) {
	is := c.plan.Load()
	switch {
	case is == nil || ctx.Err() != nil:
	case begun:
		c.received.Opened[is.slot(time.Now())].Add(1)
	default:
		c.received.Ended[is.slot(time.Now())].Add(1)
	}
}

// stream opens a stream and reads it to its end, however it ends.
func (c *client) stream(ctx context.Context) {
	if c.streams == 0 {
		c.starting <- struct{}{}
		defer func() {
			if c.streams == 0 {
				<-c.starting
			}
		}()
	}
	conn, left, err := c.balancer.dial(ctx, c.user)
	if err != nil {
		c.Refused++
		return
	}
	defer left()
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	request := fmt.Appendf(nil, "GET /sse?topic=news&topic=users/%d HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n", c.user)
	if len(c.lastID) > 0 {
		request = fmt.Appendf(request, "Last-Event-ID: %s\r\n", c.lastID)
	}
	_ = conn.SetDeadline(time.Now().Add(50 * time.Second)) // as the load balancer's; this fails only if ctx has ended
	if _, err := conn.Write(append(request, "\r\n"...)); err != nil {
		c.Refused++
		return
	}
	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 512), nil)
	if err != nil {
		c.Refused++
		return
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		c.Full++
		return
	}
	_ = conn.SetDeadline(time.Time{})

	c.since = time.Now()
	if c.streams++; c.streams == 1 {
		<-c.starting
		c.opened()
	} else {
		c.received.Back.add(c.since.Sub(c.cut))
		c.count(ctx, true)
	}
	c.connected.Store(true)
	c.read(response.Body)
	c.connected.Store(false)
}

// read checks events to the end of the stream.
func (c *client) read(body io.Reader) {
	lines := bufio.NewReaderSize(body, 256)
	var id, event, data []byte // of one event; used again for the next
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return
		}
		line = line[:len(line)-1]
		field, value, _ := bytes.Cut(line, []byte(":"))
		switch string(field) {
		case "retry":
			if ms, err := strconv.Atoi(string(value)); err == nil {
				c.retry = time.Duration(ms) * time.Millisecond
			}
		case "id":
			id = append(id, value...)
		case "event":
			event = append(event, value...)
		case "data":
			data = append(data, value...)
		}
		if len(line) == 0 {
			if len(data) > 0 { // otherwise it is a comment
				c.take(id, event, data)
			}
			id, event, data = id[:0], event[:0], data[:0]
		}
	}
}

// take checks an event.
func (c *client) take(id, event, data []byte) {
	dash := max(0, bytes.LastIndexByte(id, '-'))
	number, err := strconv.ParseUint(string(id[min(dash+1, len(id)):]), 10, 64)
	if err != nil {
		c.Wrong++
		return
	}
	if epoch := id[:dash]; !bytes.Equal(c.epoch, epoch) {
		if c.epoch != nil {
			c.Epochs++
		}
		c.epoch, c.id = append([]byte{}, epoch...), 0
	}
	switch string(event) {
	case "position":
		c.id = number
	case "gap":
		c.Gaps++
		c.id = number
	case "":
		c.message(number, data)
	default:
		c.Wrong++
	}
	c.lastID = append(c.lastID[:0], id...)
}

// message checks a message, and counts how long it took.
func (c *client) message(id uint64, data []byte) {
	m, err := messageOf(data)
	if err != nil || m.user != everybody && m.user != c.user {
		c.Wrong++
		return
	}
	latest, kind := &c.own, 0
	if m.user == everybody {
		latest, kind = &c.news, 1
	}
	switch missing := int64(m.number) - latest.Load() - 1; {
	case missing < 0:
		c.Doubled++
		return
	case id <= c.id:
		c.Disordered++
	default:
		c.Lost += int(missing)
	}
	c.Delivered++
	c.id = id
	latest.Store(int64(m.number))

	now := time.Now()
	phase := away
	if c.streams == 1 || m.posted.After(c.since) {
		phase = c.plan.Load().phase(m.posted, now)
	}
	c.received.Latencies[phase][kind].add(now.Sub(m.posted))
}
