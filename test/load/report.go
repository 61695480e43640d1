//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
)

// report is everything that was found out.
type report struct {
	settings
	plan
	cluster   *cluster
	published *published
	loads     *received
	gaps      []gap

	empty, end              time.Time // before the first client, and after the last message
	kernelEmpty, kernelFull uint64    // before the first client, and with all
}

// expected is how many messages all clients together should have.
func (r *report) expected() int {
	n := r.published.News * r.clients
	for _, own := range r.published.Users {
		n += own
	}
	return n
}

// verdict is an error if a client did not get every message once and in order.
func (r *report) verdict() error {
	var problems []string
	add := func(n int, what string) {
		if n > 0 {
			problems = append(problems, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(r.loads.Incomplete, "clients did not get everything")
	add(r.loads.Lost, "messages were lost")
	add(r.loads.Doubled, "came twice")
	add(r.loads.Disordered, "came out of order")
	add(r.loads.Wrong, "events are wrong")
	add(r.loads.Gaps, "gap events came")
	add(r.loads.Epochs, "changes of the epoch")
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, ", "))
	}
	return nil
}

func (r *report) print(out io.Writer) {
	posted := r.expected() - r.published.News*(r.clients-1)
	fmt.Fprintf(out, "\n%s clients, each with the topic news and one of its own, on %d replicas; %v of messages\n\n", comma(r.clients), len(r.cluster.replicas), r.lasts)
	table(out, func(row func(...any)) {
		row("published", comma(posted), fmt.Sprintf("of %s that the pace asks for; publishers were at most %s behind", comma(int(r.lasts.Seconds()*float64(r.rate+1))), ms(time.Duration(r.published.Late.Load()))))
		row("delivered", comma(r.loads.Delivered), fmt.Sprintf("of %s", comma(r.expected())))
		row("clients that lack something, or have no stream", comma(r.loads.Incomplete))
		row("messages left out", comma(r.loads.Lost))
		row("messages that came twice", comma(r.loads.Doubled))
		row("messages out of order", comma(r.loads.Disordered))
		row("gap events", comma(r.loads.Gaps))
		row("changes of the epoch", comma(r.loads.Epochs))
		row("events that are nobody's", comma(r.loads.Wrong))
	})

	fmt.Fprintln(out, "\nFrom the first POST to receipt")
	table(out, func(row func(...any)) {
		row("", "one client's topic: p50", "p99", "max", "deliveries", "news: p50", "p99", "max", "deliveries")
		for p := range phases {
			cells := []any{p}
			for kind := range r.loads.Latencies[p] {
				cells = append(cells, quantiles(&r.loads.Latencies[p][kind])...)
			}
			row(cells...)
		}
	})

	fmt.Fprintln(out, "\nFrom the first POST to the acknowledgement")
	table(out, func(row func(...any)) {
		row("", "p50", "p99", "max", "messages", "503", "no answer")
		for p := range away {
			row(append(append([]any{p}, quantiles(&r.published.Answers[p])...), r.published.Unavailable[p].Load(), r.published.Unanswered[p].Load())...)
		}
	})

	r.printCosts(out)
	r.printReturn(out)
}

// printCosts prints what each process took.
func (r *report) printCosts(out io.Writer) {
	fmt.Fprintln(out, "\nMemory, and CPU in per cent of a core")
	c := r.cluster
	cores := 0.0
	table(out, func(row func(...any)) {
		row("", "memory: empty", "with all clients", "highest", "at the end", "CPU: in calm", "replica fault", "NATS fault")
		for _, p := range append(c.processes(), c.own) {
			highest := 0
			for _, s := range p.samples {
				highest = max(highest, s.resident)
			}
			cores += r.took(calm, p).share
			row(p.name, mb(p.residentAt(r.empty)), mb(p.residentAt(r.ReplicaDies)), mb(highest), mb(p.residentAt(r.end)),
				percent(r.took(calm, p).share), percent(r.took(replicaDied, p).share), percent(r.took(natsDied, p).share))
		}
	})
	fmt.Fprintf(out, "All of them together used %.2f cores in calm.\n\n", cores)

	grown := func(of []*process) (bytes float64) {
		for _, p := range of {
			bytes += float64(p.residentAt(r.ReplicaDies) - p.residentAt(r.empty))
		}
		return bytes
	}
	clients, messages := float64(r.clients), float64(r.published.Answers[calm].count())
	deliveries := float64(r.loads.Latencies[calm][0].count() + r.loads.Latencies[calm][1].count())
	table(out, func(row func(...any)) {
		row("replicas: memory for each client", kb(grown(c.replicas)/clients))
		row("kernel: memory for each client, for both ends of the connection", kb((float64(r.kernelFull)-float64(r.kernelEmpty))/clients))
		row("load: memory for each client", kb(grown(c.loads)/clients))
		row("replicas: CPU for each delivery in calm, publishing included", micro(r.took(calm, c.replicas...).cpu/deliveries))
		row("load: CPU for each delivery in calm", micro(r.took(calm, c.loads...).cpu/deliveries))
		row("NATS: CPU for each message in calm, of all servers together", micro(r.took(calm, c.nats...).cpu/messages))
	})
}

// use is what processes took in a phase.
type use struct {
	cpu   float64 // seconds
	share float64 // of a core
}

func (r *report) took(in phase, of ...*process) (u use) {
	for _, p := range of {
		var cpu, lasted time.Duration
		last := time.Time{}
		for _, s := range p.samples {
			if !last.Before(r.Begin) && s.at.Before(r.End) && r.phase(last, s.at) == in {
				cpu, lasted = cpu+s.cpu, lasted+s.at.Sub(last)
			}
			last = s.at
		}
		u.cpu += cpu.Seconds()
		u.share += cpu.Seconds() / max(lasted, time.Millisecond).Seconds()
	}
	return u
}

// printReturn prints how clients came back, and when replicas were not ready.
func (r *report) printReturn(out io.Writer) {
	fmt.Fprintln(out, "\nClients that came back")
	killed := r.slot(r.ReplicaDies)
	missing, most, back := int64(0), int64(0), 0
	ended, opened := r.loads.Slots[1], r.loads.Slots[0]
	var total, peak int64
	var seconds []string
	const second = int(time.Second / slot)
	last := min(r.slot(r.end), len(opened)-1)
	for i := range last + 1 {
		missing += ended[i] - opened[i]
		total += opened[i]
		most = max(most, missing)
		if i >= killed && missing > 0 {
			back = i + 1
		}
		if i >= second {
			peak = max(peak, sum(opened[i-second:i]))
		}
	}
	for i := killed; i < back && len(seconds) < 60; i += second {
		seconds = append(seconds, comma(int(sum(opened[i:min(i+second, len(opened))]))))
	}
	until := fmt.Sprintf("%.1f s", (time.Duration(back-killed) * slot).Seconds())
	if missing > 0 {
		until = fmt.Sprintf("%d did not come back", missing)
	}
	table(out, func(row func(...any)) {
		row("streams that ended before the end", comma(int(sum(ended))))
		row("at once without a stream, at most", comma(int(most)))
		row("streams that began again", comma(int(total)))
		row("from the kill to the last of them", until)
		row("most in one second", comma(int(peak)))
		row("without a stream: p50, p99, max", fmt.Sprint(quantiles(&r.loads.Back)[:3]))
		row("attempts that found no replica", comma(r.loads.Refused))
		row("attempts answered 503", comma(r.loads.Full))
	})
	fmt.Fprintf(out, "In each second since the kill: %s\n", strings.Join(seconds, " "))

	fmt.Fprintln(out, "\nReplicas that were not ready, as asked every", poll)
	if len(r.gaps) == 0 {
		fmt.Fprintln(out, "none")
	}
	table(out, func(row func(...any)) {
		for _, g := range r.gaps {
			lasted := "to the end"
			if !g.open {
				lasted = fmt.Sprintf("for %.1f s", g.to.Sub(g.from).Seconds())
			}
			row(g.replica, fmt.Sprintf("at %.1f s", g.from.Sub(r.Begin).Seconds()), lasted, g.why)
		}
	})
}

// residentAt returns the memory that the process had at that time.
func (p *process) residentAt(at time.Time) (bytes int) {
	for _, s := range p.samples {
		if s.at.After(at) {
			break
		}
		bytes = s.resident
	}
	return bytes
}

func sum(of []int64) (n int64) {
	for _, one := range of {
		n += one
	}
	return n
}

// table prints rows with their cells in columns.
func table(out io.Writer, fill func(row func(cells ...any))) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fill(func(cells ...any) {
		for _, cell := range cells {
			fmt.Fprintf(w, "%v\t", cell)
		}
		fmt.Fprintln(w)
	})
	_ = w.Flush() // fails only if printing does, and then nobody reads it
}

// quantiles returns the median, 99 %, the highest and the count as cells of a table.
func quantiles(h *histogram) []any {
	return []any{ms(h.quantile(0.5)), ms(h.quantile(0.99)), ms(h.quantile(1)), comma(int(h.count()))}
}

func comma(n int) string        { return humanize.Comma(int64(n)) }
func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
func mb(bytes int) string       { return fmt.Sprintf("%.0f MB", float64(bytes)/1e6) }
func kb(bytes float64) string   { return fmt.Sprintf("%.1f KB", bytes/1e3) }
func percent(of float64) string { return fmt.Sprintf("%.0f %%", 100*of) }
func micro(sec float64) string  { return fmt.Sprintf("%.1f µs", sec*1e6) }
