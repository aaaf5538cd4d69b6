package main

import (
	"fmt"
	"strings"
	"sync"
	"time"
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
	p.last = time.Now()
	text := fmt.Sprintf("%s %d/%d %s", p.what, p.count, p.total, host)
	if p.app.errTerm {
		fmt.Fprint(p.app.err, "\r"+text+strings.Repeat(" ", max(0, 60-len(text))))
		p.shown = true
		return
	}
	fmt.Fprintln(p.app.err, text)
}

func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		fmt.Fprint(p.app.err, "\r"+strings.Repeat(" ", 70)+"\r")
	}
}
