//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// published is what the publishers report.
type published struct {
	sent
	Answers     [phases]histogram    // from the first POST of a message to its acknowledgement
	Unavailable [phases]atomic.Int64 // answers 503
	Unanswered  [phases]atomic.Int64 // requests without an answer
	Late        atomic.Int64         // how far a publisher was behind its pace at most
}

// publisher sends messages to its users in turn, each when the one before is acknowledged. So the messages of a topic
// have an order, which clients can check.
type publisher struct {
	*published
	plan     plan
	users    []int
	first    time.Time
	pace     time.Duration
	replicas []string
	turn     int // of the replica that it is connected to

	conn net.Conn
	in   *bufio.Reader
}

// publish sends to all users and to each one until the plan's end, and returns when everything is acknowledged. If
// that fails, it calls fail.
func publish(ctx context.Context, s settings, is plan, replicas []string, fail context.CancelCauseFunc) *published {
	all := &published{sent: sent{Users: make([]int, s.clients)}}
	n := min(s.publishers, s.clients)
	publishers := []*publisher{{users: []int{everybody}, first: is.Begin, pace: time.Second}}
	for i := range n {
		p := &publisher{first: is.Begin.Add(time.Duration(i) * time.Second / time.Duration(s.rate)), pace: time.Duration(n) * time.Second / time.Duration(s.rate)}
		for user := i; user < s.clients; user += n {
			p.users = append(p.users, user)
		}
		publishers = append(publishers, p)
	}
	var publishing sync.WaitGroup
	for i, p := range publishers {
		p.published, p.plan, p.replicas, p.turn = all, is, replicas, i
		publishing.Go(func() {
			if err := p.run(ctx); err != nil {
				fail(err)
			}
		})
	}
	publishing.Wait()
	return all
}

func (p *publisher) run(ctx context.Context) error {
	defer p.hangUp()
	for k, due := 0, p.first; due.Before(p.plan.End); k, due = k+1, due.Add(p.pace) {
		if err := wait(ctx, due); err != nil {
			return err
		}
		if !time.Now().Before(p.plan.End) { // it is behind
			return nil
		}
		p.late(time.Since(due))
		user := p.users[k%len(p.users)]
		count := &p.News
		if user != everybody {
			count = &p.Users[user]
		}
		if err := p.publish(ctx, message{user, *count + 1, time.Now()}); err != nil {
			return err
		}
		*count++
	}
	return nil
}

func (p *publisher) late(by time.Duration) {
	for most := p.Late.Load(); int64(by) > most && !p.Late.CompareAndSwap(most, int64(by)); most = p.Late.Load() {
	}
}

// publish sends a message, again and again until a replica has acknowledged it.
func (p *publisher) publish(ctx context.Context, m message) error {
	data := m.data()
	request := fmt.Sprintf("POST /sse?topic=%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"+
		"Idempotency-Key: %d-%d\r\nContent-Length: %d\r\n\r\n%s", m.topic(), secret, m.user, m.number, len(data), data)
	for {
		begin := time.Now()
		status, err := p.post(ctx, request)
		now := time.Now()
		phase := p.plan.phase(begin, now)
		switch {
		case err == nil && status == http.StatusAccepted:
			p.Answers[p.plan.phase(m.posted, now)].add(now.Sub(m.posted))
			return nil
		case err == nil && status != http.StatusServiceUnavailable:
			return fmt.Errorf("publish: status %d", status)
		case err == nil:
			p.Unavailable[phase].Add(1)
		default:
			p.Unanswered[phase].Add(1)
		}
		if err := wait(ctx, time.Now().Add(100*time.Millisecond)); err != nil {
			return err
		}
	}
}

// post makes one attempt. After a failure, the next one is at the next replica.
func (p *publisher) post(ctx context.Context, request string) (status int, err error) {
	defer func() {
		if err != nil || status == http.StatusServiceUnavailable {
			p.hangUp()
			p.turn++
		}
	}()
	if p.conn == nil {
		dialer := net.Dialer{Timeout: 2 * time.Second}
		if p.conn, err = dialer.DialContext(ctx, "tcp", p.replicas[p.turn%len(p.replicas)]); err != nil {
			p.conn = nil
			return 0, err
		}
		p.in = bufio.NewReaderSize(p.conn, 1024)
	}
	if err := p.conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(p.conn, request); err != nil {
		return 0, err
	}
	response, err := http.ReadResponse(p.in, nil)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil { // so that the connection can be used again
		return 0, err
	}
	return response.StatusCode, nil
}

func (p *publisher) hangUp() {
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
}
