package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/plan"
)

// progress shows how far long work is, on standard error. On a terminal it is
// one line that is rewritten at most ten times a second; elsewhere it says
// nothing but a line every ten seconds.
type progress struct {
	app   *app
	what  string
	total int

	mu    sync.Mutex
	count int
	last  time.Time
	shown bool
}

func (a *app) progress(what string, total int) *progress {
	return &progress{app: a, what: what, total: total, last: time.Now()}
}

func (p *progress) step(host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	every := 10 * time.Second
	if p.app.errTerm {
		every = 100 * time.Millisecond
	}
	if p.app.json || time.Since(p.last) < every {
		return
	}
	p.write(fmt.Sprintf("%s %d/%d %s", p.what, p.count, p.total, host))
}

// now shows what is being done, without counting it. Only a terminal has it.
func (p *progress) now(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.app.errTerm && !p.app.json && time.Since(p.last) >= 100*time.Millisecond {
		p.write(text)
	}
}

func (p *progress) write(text string) {
	p.last = time.Now()
	if p.app.errTerm {
		// Written over and then cut, so that it does not flicker; never wrapped.
		fmt.Fprint(p.app.err, "\r"+text[:min(len(text), p.app.width-1)]+"\x1b[K")
		p.shown = true
		return
	}
	fmt.Fprintln(p.app.err, text)
}

func (p *progress) done() {
	p.clear()
}

// eachStep is up to how many hosts an apply tells every step; of more it tells
// what did not go well, and how many are done.
const eachStep = 10

// steps tells the steps of an apply that changes so many hosts: each on its own
// line, or on a terminal one line for each host.
func (a *app) steps(hosts int) func(plan.Event) {
	if a.json {
		return nil
	}
	if hosts <= eachStep && a.errTerm && !a.verbose {
		return a.hostLines(hosts)
	}
	if hosts <= eachStep || a.verbose {
		return func(e plan.Event) {
			if e.Step != "end" || e.Result != "" {
				a.note("%s", report.EventLine(e))
			}
		}
	}
	p := a.progress("changed", hosts)
	a.running = p
	return func(e plan.Event) {
		if e.Result != "" && e.Result != plan.Changed && e.Result != plan.Unchanged {
			p.clear()
			a.note("%s", report.EventLine(e))
		}
		if e.Result != "" {
			p.step(report.Safe(e.Host))
		}
	}
}

// hostLines shows what each host is at, and leaves a line of it at its end.
func (a *app) hostLines(hosts int) func(plan.Event) {
	p := a.progress("changed", hosts)
	a.running = p
	var mu sync.Mutex
	seen := map[string][]plan.Event{}
	return func(e plan.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Step != "end" {
			seen[e.Host] = append(seen[e.Host], e)
		}
		switch {
		case e.Result != "":
			p.clear()
			a.note("%s", report.HostLine(append(seen[e.Host], plan.Event{Host: e.Host, Step: "end", Detail: e.Detail, Result: e.Result}), a.width))
			delete(seen, e.Host)
		case e.Step != "end":
			p.now(report.EventLine(e))
		}
	}
}

// stepsDone takes the line of an apply's progress away.
func (a *app) stepsDone() {
	if a.running != nil {
		a.running.done()
		a.running = nil
	}
}

// clear takes the line away until the next step.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		fmt.Fprint(p.app.err, "\r\x1b[K")
		p.shown = false
	}
}
