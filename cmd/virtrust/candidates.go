package main

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/tasks"
)

// candidates are the hosts that a scheduled run looks at: those that may want a
// renewal or were never seen with today's authorities and lists, and the part of
// the others whose turn it is.
func (r *renewing) candidates(ctx context.Context, l *ledger.Ledger, hosts []*inventory.Host, looks map[string]ledger.Look) ([]*inventory.Host, error) {
	now := r.app.now()
	selected := map[string]bool{}
	for _, h := range hosts {
		selected[h.Name] = true
	}
	leaves, err := l.Leaves(ctx, func(host string) bool { return selected[host] }, false, now)
	if err != nil {
		return nil, err
	}
	known := map[string][]tasks.Known{}
	for _, k := range leaves {
		// Of several the last one counts: they come in the order of issuance.
		list := slices.DeleteFunc(known[k.Host], func(x tasks.Known) bool { return x.Certificate == k.Certificate && k.State == ledger.StateInstalled })
		if slices.ContainsFunc(list, func(x tasks.Known) bool { return x.Certificate == k.Certificate }) {
			continue // signed and never confirmed
		}
		known[k.Host] = append(list, tasks.Known{Certificate: k.Certificate, NotBefore: k.NotBefore, NotAfter: k.NotAfter})
	}
	var todo, rest []*inventory.Host
	for _, h := range hosts {
		look, seen := looks[h.Name]
		why, at := tasks.Pending(h, known[h.Name], now)
		switch {
		case !h.Managed:
			r.sum.Skipped = append(r.sum.Skipped, report.RenewalRow{Host: h.Name, Text: "managed = false"})
			continue
		case h.Away != nil && h.Away.Until.After(now):
			r.sum.Skipped = append(r.sum.Skipped, report.RenewalRow{Host: h.Name, Text: "away until " + h.Away.Until.Format(time.DateOnly) + ": " + h.Away.Reason})
			continue
		case why == "" && seen && look.Trust == r.trustOf(h):
			rest = append(rest, h)
		default:
			r.log.Debug("host may want a renewal", "host", h.Name, "why", why)
			todo = append(todo, h)
		}
		if why == "" && !at.IsZero() && (r.sum.Next.IsZero() || at.Before(r.sum.Next)) {
			r.sum.Next, r.sum.NextHost = at, h.Name
		}
	}
	turn := r.turn(rest, looks, now, len(hosts))
	todo = append(todo, turn...)
	for _, h := range rest {
		if !slices.Contains(turn, h) {
			r.settled = append(r.settled, h.Name)
		}
	}
	order := map[*inventory.Host]int{}
	for i, h := range hosts {
		order[h] = i
	}
	slices.SortFunc(todo, func(x, y *inventory.Host) int { return cmp.Compare(order[x], order[y]) })
	return todo, nil
}

// turn picks the hosts whose last look is the longest ago, so many each day that
// all have had their turn within the time that was asked for.
func (r *renewing) turn(rest []*inventory.Host, looks map[string]ledger.Look, now time.Time, all int) []*inventory.Host {
	if r.every <= 0 {
		return nil
	}
	days := int(r.every / (24 * time.Hour))
	quota := (all + days - 1) / days
	var old []*inventory.Host
	for _, h := range rest {
		if now.Sub(looks[h.Name].At) < 24*time.Hour {
			quota--
			continue
		}
		old = append(old, h)
	}
	slices.SortStableFunc(old, func(x, y *inventory.Host) int { return looks[x.Name].At.Compare(looks[y.Name].At) })
	return old[:min(max(quota, 0), len(old))]
}

// trustOf identifies what a host's authorities are and have revoked.
func (f *fleet) trustOf(h *inventory.Host) string {
	var t pki.Trust
	for _, name := range tasks.Authorities(h) {
		if a, ok := f.trust.Authority(name); ok {
			t.Authorities = append(t.Authorities, a)
		}
	}
	return t.Digest()
}
