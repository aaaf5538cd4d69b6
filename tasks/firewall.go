package tasks

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/conffile"
	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/firewall"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

// wall is who may connect: the openings of a policy, in whichever firewall
// owns the host. A host without one is left as it is.
type wall struct {
	host *inventory.Host
	want *inventory.Firewall
}

func (b build) firewall(f *inventory.Firewall) plan.Task { return &wall{host: b.host, want: f} }

func (*wall) ID() plan.ID { return "firewall" }

const qemuSettings = "/etc/libvirt/qemu.conf"

func (w *wall) Needs() []facts.Query {
	qs := firewall.Queries()
	if slices.ContainsFunc(w.want.Allows, ofQEMU) {
		qs = append(qs, facts.Content(qemuSettings))
	}
	return qs
}

// ofQEMU reports whether the ports are those that QEMU migrates over.
func ofQEMU(a inventory.Allow) bool { return a.Port == 0 && a.Ports == "" }

func (w *wall) Diff(h *facts.Host, _ time.Time) ([]plan.Op, []plan.Finding) {
	var found []plan.Finding
	say := func(code string, s plan.Severity, hint, text string, args ...any) {
		found = append(found, plan.Finding{Code: code, Severity: s, Task: w.ID(), Text: fmt.Sprintf(text, args...), Hint: hint})
	}
	v := firewall.Look(h)
	if v.Owner == firewall.None {
		return nil, nil
	}
	for _, o := range v.Beside {
		say("firewall-two-owners", plan.Warning, "disable one of the two", "%s and %s are both active on this host; only %s is changed", v.Owner, o, v.Owner)
	}
	if w.want.Backend != "auto" && w.want.Backend != string(v.Owner) {
		say("firewall-backend", plan.Problem, `write backend = "auto", or change the host`, "the policy says %s and the host's firewall is %s: nothing is opened", w.want.Backend, v.Owner)
		return nil, found
	}
	if v.Problem != "" {
		say("firewall-unclear", plan.Problem, "open the ports on the host yourself", "%s: nothing is opened", v.Problem)
		return nil, found
	}
	port := func(name string, o firewall.Opening) plan.Port {
		return plan.Port{Name: name, Owner: string(v.Owner), Managers: h.Firewall["managers"], Place: o.Place, From: o.From, To: o.To}
	}
	var ops []plan.Op
	var rules []firewall.Rule
	whole := true // every wanted rule is known
	for _, a := range w.want.Allows {
		r, err := w.rule(a, h)
		if err != nil {
			whole = false
			say("firewall-no-source", plan.Problem, fmt.Sprintf(`write from = ["10.0.0.0/24"] with the network of the other hosts into allow %q (%s)`, a.Name, a.Source), "%s", err)
			continue
		}
		rules = append(rules, r)
		answer := v.Allowed(r)
		for _, group := range portGroups(answer.Missing) {
			p := port(a.Name, group[0])
			p.Sources = sourcesOf(group)
			ops = append(ops, plan.AllowPort{Meta: plan.Meta{Task: w.ID(), Wave: plan.WaveListen, Reason: reasonOfRule(v, r)}, Port: p})
		}
		for _, o := range once(answer.Wider) {
			say("firewall-wider", plan.Warning, "remove that rule if nothing else needs it", "%s: the host lets in %s, more than the policy asks for", a.Name, o)
		}
	}
	if whole {
		for _, group := range portGroups(v.Stale(rules)) {
			p := port(cmp.Or(group[0].Name, "rule"), group[0])
			p.Sources = sourcesOf(group)
			ops = append(ops, plan.ClosePort{Meta: plan.Meta{Task: w.ID(), Wave: plan.WaveClose, Reason: "no longer in the policy"}, Port: p})
		}
	}
	return ops, found
}

// reasonOfRule is "new", or "drift" where a part of the rule is there.
func reasonOfRule(v firewall.View, r firewall.Rule) string {
	for _, o := range slices.Concat(v.Runtime, v.Kept) {
		if o.Ours && o.From == r.From && o.To == r.To {
			return "drift: part of the rule is missing"
		}
	}
	return "new"
}

// rule gives an opening its ports and its sources.
func (w *wall) rule(a inventory.Allow, h *facts.Host) (firewall.Rule, error) {
	r := firewall.Rule{Name: a.Name, From: uint16(a.Port), To: uint16(a.Port)}
	switch {
	case ofQEMU(a):
		r.From, r.To = migrationPorts(h)
	case a.Ports != "":
		first, last, _ := strings.Cut(a.Ports, "-")
		from, err1 := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil {
			return r, fmt.Errorf("allow %q: %q is no range of ports", a.Name, a.Ports)
		}
		r.From, r.To = uint16(from), uint16(to)
	}
	for _, s := range a.Sources {
		if !s.IsSingleIP() || !w.own(s.Addr()) {
			r.Sources = append(r.Sources, s)
		}
	}
	r.Sources = firewall.Tidy(r.Sources)
	if len(r.Sources) == 0 {
		return r, fmt.Errorf("allow %q: no address is known that may connect (from is %s)", a.Name, strings.Join(a.From, ", "))
	}
	return r, nil
}

func (w *wall) own(a netip.Addr) bool {
	if w.host.Address == a.String() {
		return true
	}
	return slices.ContainsFunc(w.host.Nics, func(n inventory.Nic) bool { return slices.Contains(n.Addresses, a) })
}

// migrationPorts are the ports of that host's qemu.conf, or libvirt's default.
func migrationPorts(h *facts.Host) (from, to uint16) {
	from, to = 49152, 49215
	content, _ := h.Content(qemuSettings)
	f, err := conffile.Parse(content)
	if err != nil {
		return from, to
	}
	read := func(key string, otherwise uint16) uint16 {
		if v, ok := f.Get(key); ok {
			if n, err := strconv.ParseUint(v.String(), 10, 16); err == nil && n > 0 {
				return uint16(n)
			}
		}
		return otherwise
	}
	a, b := read("migration_port_min", from), read("migration_port_max", to)
	if a > b {
		return from, to
	}
	return a, b
}

// portGroups puts openings together that differ in their source alone.
func portGroups(list []firewall.Opening) [][]firewall.Opening {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b firewall.Opening) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Place, b.Place), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), a.Source.Compare(b.Source))
	})
	var out [][]firewall.Opening
	for i, o := range list {
		if p := len(out) - 1; i > 0 && o.Name == list[i-1].Name && o.Place == list[i-1].Place && o.From == list[i-1].From && o.To == list[i-1].To {
			out[p] = append(out[p], o)
			continue
		}
		out = append(out, []firewall.Opening{o})
	}
	return out
}

func sourcesOf(group []firewall.Opening) []netip.Prefix {
	var out []netip.Prefix
	for _, o := range group {
		out = append(out, o.Source)
	}
	return out
}

// once drops what reads the same: a rule for both families is said once.
func once(list []firewall.Opening) []firewall.Opening {
	seen := map[string]bool{}
	return slices.DeleteFunc(list, func(o firewall.Opening) bool {
		again := seen[o.String()]
		seen[o.String()] = true
		return again
	})
}

// Keep gives the files that let the firewall operations of a plan last, from
// what the host has now.
func Keep(ops plan.Ops, h *facts.Host) ([]plan.Kept, error) {
	var allow, closing []firewall.Opening
	owner := firewall.None
	for _, op := range ops {
		p, closes, ok := plan.PortOf(op)
		if !ok {
			continue
		}
		owner = firewall.Owner(p.Owner)
		for _, s := range p.Sources {
			o := firewall.Opening{Name: p.Name, Ours: true, From: p.From, To: p.To, Source: s.Masked(), Place: p.Place}
			if closes {
				closing = append(closing, o)
			} else {
				allow = append(allow, o)
			}
		}
	}
	files, err := firewall.Keep(owner, h, allow, closing)
	if err != nil {
		return nil, err
	}
	var out []plan.Kept
	for _, f := range files {
		out = append(out, plan.Kept{Path: f.Path, Before: plan.Digest(f.Old), Content: f.New})
	}
	return out, nil
}
