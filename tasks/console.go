package tasks

import (
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/plan"
)

// CodePlainConsole is the code of the finding that a running guest's VNC
// console is not encrypted.
const CodePlainConsole = "console-not-encrypted"

// consoles compares what the VNC consoles of running guests show with the
// certificate on disk. The reason is why that is replaced, empty when it stays.
// A console without TLS gets it when its guest is next started, which is not
// ours to do.
func (c *certificate) consoles(h *facts.Host, leaf *x509.Certificate, reason string) ([]plan.Op, []plan.Finding) {
	if !c.console {
		return nil, nil
	}
	var plain, old, silent []string
	encrypted := 0
	for _, k := range h.Consoles {
		seen, looked := h.Served[k.Address]
		switch {
		case !looked:
		case len(seen.Chain) > 0:
			encrypted++
			if leaf == nil || string(seen.Chain[0]) != string(leaf.Raw) {
				old = append(old, k.Guest)
			}
		case seen.Problem == facts.PlainConsole:
			plain = append(plain, k.Guest)
		case seen.Problem == "refused": // it ended meanwhile
		default:
			silent = append(silent, k.Guest+" ("+seen.Problem+")")
		}
	}
	var found []plan.Finding
	if len(plain) > 0 {
		found = append(found, plan.Finding{Code: CodePlainConsole, Severity: plan.Warning, Task: c.ID(),
			Text: fmt.Sprintf("the VNC console of %s is not encrypted: a guest that started before vnc_tls was set keeps its console as it is (VM restart)", some(plain)),
			Hint: "shut the guest down and start it again, or migrate it to a host that has the setting"})
	}
	if len(silent) > 0 {
		found = append(found, plan.Finding{Code: "console-silent", Severity: plan.Warning, Task: c.ID(),
			Text: "what these VNC consoles show could not be seen: " + some(silent), Hint: "does sshd on the host forbid forwarding (AllowTcpForwarding)?"})
	}
	switch {
	case reason != "" && encrypted+len(silent) > 0:
	case reason == "" && len(old) > 0:
		reason = "the console of " + some(old) + " shows another certificate than the one on disk"
	default:
		return nil, found
	}
	return []plan.Op{plan.Activate{Meta: plan.Meta{Task: c.ID(), Wave: plan.WaveIdentity, Reason: reason}, Unit: plan.Consoles, How: plan.ReloadConsoles}}, found
}

// some names guests, the first few of many.
func some(names []string) string {
	const most = 5
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
