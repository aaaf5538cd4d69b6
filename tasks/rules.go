package tasks

import (
	"fmt"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/plan"
)

// Rules are the judgements over the whole fleet.
func Rules() []plan.Rule { return []plan.Rule{oneMachine{}, authorityAge{}, lists{}} }

// oneMachine finds two hosts of the inventory that are the same machine, or a
// machine that was cloned with its id: a change of one would undo the other's.
type oneMachine struct{}

func (oneMachine) Judge(hosts []plan.HostPlan, _ pki.Trust, _ time.Time) []plan.Finding {
	byID := map[string][]string{}
	for _, h := range hosts {
		if h.MachineID != "" {
			byID[h.MachineID] = append(byID[h.MachineID], h.Host)
		}
	}
	var out []plan.Finding
	for _, h := range hosts {
		if same := byID[h.MachineID]; len(same) > 1 {
			out = append(out, plan.Finding{
				Code: "same-machine", Severity: plan.Problem, Host: h.Host, Holds: true,
				Text: "hosts " + strings.Join(same, ", ") + " have one machine id: they are one machine, or clones of one",
				Hint: "mend the addresses in the inventory, or make a new id on the clone (systemd-machine-id-setup after removing /etc/machine-id)",
			})
		}
	}
	return out
}

// authorityAge finds authorities that end soon.
type authorityAge struct{}

// caNotice is how long before its end an authority is reported.
const caNotice = 180 * 24 * time.Hour

func (authorityAge) Judge(_ []plan.HostPlan, trust pki.Trust, now time.Time) []plan.Finding {
	var out []plan.Finding
	for _, a := range trust.Authorities {
		g, ok := a.Issuing()
		if !ok || g.NotAfter.After(now.Add(caNotice)) {
			continue
		}
		f := plan.Finding{Code: "ca-ends-soon", Severity: plan.Warning,
			Text: fmt.Sprintf("authority %q ends %s", a.Name, date(g.NotAfter)), Hint: "make a new generation of it in time"}
		if !g.NotAfter.After(now) {
			f.Severity, f.Text = plan.Problem, fmt.Sprintf("authority %q ended %s: nothing that it signed is accepted any more", a.Name, date(g.NotAfter))
		}
		out = append(out, f)
	}
	return out
}
