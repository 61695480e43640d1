package pages

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"

	"gin-sse/test/internal/app"
	"gin-sse/test/internal/browser"
)

// BenchmarkPageAt2000MessagesASecond shows the page what a publisher sends for 30 s.
func BenchmarkPageAt2000MessagesASecond(b *testing.B) {
	const perSecond, seconds = 2_000, 30
	a := app.Start(b, "PUBLISH_TOKEN="+app.Token, "TICK_INTERVAL=0")
	page := browser.Chromium(b).Open(a.URL)
	page.Resize(1280, 800)
	page.Until(state("live"))
	page.Do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, performance.Enable, performance.EnableParams{TimeDomain: performance.EnableTimeDomainThreadTicks})
		return err
	}))
	page.Run("window.frames = 0; (function count() { window.frames++; requestAnimationFrame(count); })()")
	for b.Loop() {
		before, frames, start := metrics(page), browser.Evaluate[float64](page, "window.frames"), time.Now()
		lines, w := io.Pipe()
		published := make(chan error, 1)
		go func() {
			published <- upload(b.Context(), a.URL+"/sse", lines)
		}()
		every := time.NewTicker(10 * time.Millisecond)
		sent := 0
		for since := time.Duration(0); since < seconds*time.Second; since = time.Since(start) {
			<-every.C
			for ; sent < int(since.Seconds()*perSecond); sent++ {
				if _, err := fmt.Fprintf(w, "message %d of a program that has a lot to say\n", sent+1); err != nil {
					b.Fatal(err)
				}
			}
		}
		every.Stop()
		took, after := time.Since(start).Seconds(), metrics(page)
		shown := browser.Evaluate[float64](page, "window.frames") - frames
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
		if err := <-published; err != nil {
			b.Fatal(err)
		}
		page.Until(fmt.Sprintf("%s.startsWith('message %d ')", headline, sent))
		b.ReportMetric(float64(sent)/took, "messages/s")
		b.ReportMetric(shown/took, "frames/s")
		b.ReportMetric(100*(after["TaskDuration"]-before["TaskDuration"])/took, "%-of-main-thread")
		b.ReportMetric((metrics(page)["JSHeapUsedSize"]-before["JSHeapUsedSize"])/1000, "kB-more-heap")
	}
}

// upload publishes lines until they end.
func upload(ctx context.Context, url string, lines io.Reader) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, lines)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+app.Token)
	request.Header.Set("Content-Type", "text/plain")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		return fmt.Errorf("publishing: %s", response.Status)
	}
	return nil
}

// metrics returns what Chromium knows of a page, times being those of its main thread's CPU.
func metrics(p *browser.Tab) map[string]float64 {
	p.T.Helper()
	found := map[string]float64{}
	p.Do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		if _, err := cdp.Call(ctx, target, heapprofiler.CollectGarbage, cdp.Empty{}); err != nil {
			return err
		}
		result, err := cdp.Call(ctx, target, performance.GetMetrics, cdp.Empty{})
		if err != nil {
			return err
		}
		for _, metric := range result.Metrics {
			found[metric.Name] = metric.Value
		}
		return nil
	}))
	return found
}
