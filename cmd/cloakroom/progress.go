package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"cloakroom/cmd/cloakroom/importer"
	"cloakroom/cmd/cloakroom/rows"
)

// progress shows how far an import is, on a terminal only. stop removes it.
func (a *app) progress(imp *importer.Importer, size int64) (stop func()) {
	if !isTerminal(a.err) {
		return func() {}
	}
	began := time.Now()
	rate := func(decor.Statistics) string {
		n, _ := imp.Progress()
		return fmt.Sprintf("%d rows  %.0f/s  ", n, float64(n)/max(time.Since(began).Seconds(), 0.001))
	}
	bars := mpb.New(mpb.WithOutput(a.err), mpb.WithWidth(40), mpb.WithRefreshRate(200*time.Millisecond))
	after := []decor.Decorator{decor.Any(rate)}
	if size > 0 {
		after = append(after, decor.AverageETA(decor.ET_STYLE_GO), decor.Name(" left"))
	}
	bar := bars.AddBar(size, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Percentage()), mpb.AppendDecorators(after...))
	done := make(chan struct{})
	finished := make(chan struct{})
	go func() { // ends when stop closes done
		defer close(finished)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, bytes := imp.Progress()
				bar.SetCurrent(min(bytes, max(size-1, 0)))
			case <-done:
				bar.Abort(true)
				return
			}
		}
	}()
	return func() {
		close(done)
		<-finished
		bars.Wait()
	}
}

func sortFaults(faults []rows.Fault) {
	slices.SortFunc(faults, func(a, b rows.Fault) int { return cmp.Compare(a.Line, b.Line) })
}

// catchingUp shows how many groups of a dev process tolerate the loss of a
// node again.
func (a *app) catchingUp() func(done, of int) { return a.countdown("groups whole") }

// countdown shows how much of something is done, on a terminal only. The func
// it returns is told, and told 0 of 0 at the end, once or more often.
func (a *app) countdown(what string) func(done, of int) {
	if !isTerminal(a.err) {
		return func(int, int) {}
	}
	var bars *mpb.Progress
	var bar *mpb.Bar
	return func(done, of int) {
		if of > 0 && bar == nil {
			bars = mpb.New(mpb.WithOutput(a.err), mpb.WithWidth(40))
			bar = bars.AddBar(int64(of), mpb.BarRemoveOnComplete(),
				mpb.PrependDecorators(decor.CountersNoUnit("%d of %d "+what)), mpb.AppendDecorators(decor.Elapsed(decor.ET_STYLE_GO)))
		}
		switch {
		case of > 0:
			bar.SetCurrent(int64(min(done, of-1)))
		case bar != nil:
			bar.Abort(true)
			bars.Wait()
			bar = nil
		}
	}
}
