package tasks

import (
	"fmt"
	"slices"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

// CodeOrphans is the code of the finding that a host has left with certificates.
const CodeOrphans = "orphan-certificates"

// Codes of what keeps a renewal back. The certificate is renewed by a later run.
const (
	CodeWaitsForWindow = "waits-for-window"
	CodeBacksOff       = "backs-off"
	CodeNoRenewal      = "no-renewal"
)

// renewal is what bounds a renewal that nobody watches.
type renewal struct {
	windows []inventory.Window
	failure pki.Failure // the last ones in a row
}

// renewals adds the tasks of a scheduled run: certificates, and what they need
// of the host. Everything else waits for a person.
func (b build) renewals(out []plan.Task) ([]plan.Task, error) {
	for _, c := range b.host.Policy.Certificates {
		task, err := b.certificate(c)
		if err != nil {
			return nil, err
		}
		task.renewal = &renewal{windows: b.host.Policy.Rollout.Windows}
		task.renewal.failure, _ = b.trust.Failure(b.host.Name, c.Name)
		out = append(out, task)
	}
	return b.lists(out)
}

// lists adds the tasks of revocation lists.
func (b build) lists(out []plan.Task) ([]plan.Task, error) {
	for _, t := range b.host.Policy.Trusts {
		if t.CRL == "" {
			continue
		}
		l, err := b.crlFile(t)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// holds says why a certificate is not made in this run; nil where it is.
func (r *renewal) holds(c *certificate, d pki.Decision, wish string, now time.Time) *plan.Finding {
	if d.Urgency == pki.Replace {
		return &plan.Finding{Code: CodeNoRenewal, Severity: plan.Warning, Task: c.ID(),
			Text: fmt.Sprintf("%s is to be replaced, which is no renewal: %s", c.cert.Name, d.Reason), Hint: "look at it with `virtrust plan`, then apply"}
	}
	if d.Urgency == pki.Emergency {
		return nil
	}
	if r.failure.Wish == wish {
		if next := r.failure.At.Add(pki.Backoff(r.failure.Attempts, d.Urgency)); next.After(now) {
			return &plan.Finding{Code: CodeBacksOff, Severity: plan.Warning, Task: c.ID(),
				Text: fmt.Sprintf("%s is due and waits until %s, %s: %s", c.cert.Name, moment(next), failed(r.failure), r.failure.Text),
				Hint: "mend the cause and apply, which waits for nothing"}
		}
	}
	if open, next, at := inventory.OpenWindow(r.windows, now); !open {
		return &plan.Finding{Code: CodeWaitsForWindow, Severity: plan.Note, Task: c.ID(),
			Text: fmt.Sprintf("%s is due and waits for window %q, which opens %s", c.cert.Name, next.Name, moment(at))}
	}
	return nil
}

func failed(f pki.Failure) string {
	if f.Attempts == 1 {
		return "the last attempt failed " + moment(f.At)
	}
	return fmt.Sprintf("%d attempts failed in a row, the last one %s", f.Attempts, moment(f.At))
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// Known is what the ledger knows of a certificate of a host that is in use.
type Known struct {
	Certificate         string
	NotBefore, NotAfter time.Time
}

// Pending says why a host may want a renewal, from what is known without asking
// it; empty where it can be left alone until at. Known are the leaves in use.
func Pending(h *inventory.Host, known []Known, now time.Time) (why string, at time.Time) {
	open, _, opens := inventory.OpenWindow(h.Policy.Rollout.Windows, now)
	soon := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	for _, c := range h.Policy.Certificates {
		i := slices.IndexFunc(known, func(k Known) bool { return k.Certificate == c.Name })
		if i < 0 {
			return c.Name + " is not in the ledger", now
		}
		k := known[i]
		due := pki.Due(k.NotBefore, k.NotAfter, c.RenewBefore, c.Lifetime, h.Name, c.Name)
		u := pki.Grade(now, k.NotBefore, k.NotAfter, due, c.Lifetime)
		switch {
		case u == pki.NotDue:
			soon(due)
		case u == pki.Emergency || open:
			return fmt.Sprintf("%s is due since %s", c.Name, date(due)), now
		default:
			soon(opens)
		}
	}
	return "", at
}
