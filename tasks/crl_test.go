package tasks

import (
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

// revoke signs the next list of authority libvirt.
func (w *world) revoke(number uint64, serials ...*big.Int) {
	w.t.Helper()
	var entries []pki.Revocation
	for _, s := range serials {
		entries = append(entries, pki.Revocation{Serial: s, At: w.now})
	}
	l, err := pki.NewCRL(w.now, w.ca, w.key, number, entries, 30*24*time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	gs := w.trust.Authorities[0].Generations
	g := &gs[len(gs)-1]
	g.CRL, g.CRLNumber, g.SignedCRL, g.Revoked = l.Raw, number, number, nil
	for _, s := range serials {
		g.Revoked = append(g.Revoked, pki.SerialText(s))
	}
}

const list = "/etc/pki/CA/cacrl.pem"

// hostWithList is a host whose policy has a place for lists.
func (w *world) hostWithList(name string) *inventory.Host {
	h := w.host(name)
	h.Policy.Trusts[0].CRL = list
	return h
}

func TestRevocationLists(t *testing.T) {
	w := newWorld(t)
	w.revoke(1)
	inv, seen := w.hostWithList("kvm1"), w.seen()
	w.apply(seen, w.plan(inv, seen, Options{}).Ops)
	if p := w.plan(inv, seen, Options{}); len(p.Ops) != 0 || seen.Path(list).Type != "" {
		t.Fatalf("a list without entries was installed, or: %q", kinds(p.Ops))
	}
	w.revoke(2, big.NewInt(1<<40))
	p := w.plan(inv, seen, Options{})
	if got := kinds(p.Ops); !slices.Equal(got, []string{"write-file " + list, "activate libvirtd.service"}) {
		t.Fatalf("the first entry: %q", got)
	}
	if p.Disrupts() != plan.DisruptReload || p.Ops[0].About().Wave != plan.WaveTrust {
		t.Errorf("%v", p.Ops)
	}
	w.apply(seen, p.Ops)
	if p := w.plan(inv, seen, Options{}); len(p.Ops) != 0 {
		t.Fatalf("not empty after apply: %q", kinds(p.Ops))
	}
	if p := w.plan(inv, seen, Options{Renew: true}); len(p.Ops) != 0 {
		t.Errorf("renew finds something: %q", kinds(p.Ops))
	}
	// A list with a higher number follows; renew brings it, too.
	newer := *w
	newer.trust.Authorities = slices.Clone(w.trust.Authorities)
	newer.trust.Authorities[0].Generations = slices.Clone(w.trust.Authorities[0].Generations)
	newer.revoke(3)
	p = newer.plan(inv, seen, Options{Renew: true})
	if len(p.Ops) != 2 || !strings.Contains(p.Ops[0].About().Reason, "becomes list 3 (0 revoked, was 1)") {
		t.Fatalf("a newer list: %q", kinds(p.Ops))
	}
	newer.apply(seen, p.Ops)
	// The number on a host never falls.
	if p := w.plan(inv, seen, Options{}); len(p.Ops) != 0 || !slices.Contains(codes(p), "crl-older") {
		t.Errorf("an older list: %q %q", kinds(p.Ops), codes(p))
	}
	g := &newer.trust.Authorities[0].Generations[0]
	g.Unrecorded = []string{"aa"}
	newer.file(seen, list, []byte("rubbish"), 0o644)
	if p := newer.plan(inv, seen, Options{}); len(p.Ops) != 0 || !slices.Contains(codes(p), "crl-unfit") {
		t.Errorf("a list that revokes what is in use: %q %q", kinds(p.Ops), codes(p))
	}
	g.Unrecorded = nil
	if p := newer.plan(inv, seen, Options{}); len(p.Ops) != 2 || p.Ops[0].About().Reason != "holds something that is no revocation list" {
		t.Errorf("rubbish: %q", kinds(p.Ops))
	}
}

// When the last list leaves, as the CA that signed it does, so does the file:
// libvirtd takes an empty one for a broken one.
func TestLastListLeavesWithItsFile(t *testing.T) {
	w := newWorld(t)
	inv, seen := w.hostWithList("kvm1"), w.seen()
	w.revoke(1, big.NewInt(1<<40))
	w.apply(seen, w.plan(inv, seen, Options{}).Ops)
	w.addGeneration(2) // of a CA that gives no list
	w.apply(seen, w.plan(inv, seen, Options{}).Ops)
	w.trust.Authorities[0].Generations[0].Phase = pki.PhaseRetired
	for range 2 {
		p := w.plan(inv, seen, Options{})
		for _, o := range p.Ops {
			if f, ok := o.(plan.WriteFile); ok && f.Path == list {
				t.Fatalf("the file is written with %q", f.Content)
			}
		}
		w.apply(seen, p.Ops)
	}
	if at := seen.Path(list); at.Type != "" && at.Type != facts.Absent {
		t.Errorf("the file is there: %+v", at)
	}
	w.file(seen, list, nil, 0o644)
	if p := w.plan(inv, seen, Options{}); !slices.Contains(kinds(p.Ops), "remove "+list) {
		t.Errorf("an empty file: %q", kinds(p.Ops))
	}
}

// A revoked certificate in use is made anew, by renew as well.
func TestRevokedIsReplaced(t *testing.T) {
	w := newWorld(t)
	inv, seen := w.hostWithList("kvm1"), w.seen()
	w.apply(seen, w.plan(inv, seen, Options{}).Ops)
	content, _ := seen.Content("/etc/pki/libvirt/clientcert.pem")
	w.revoke(2, pki.ParseBundle(content).Certs[0].SerialNumber)
	for _, renew := range []bool{false, true} {
		p := w.plan(inv, seen, Options{Renew: renew})
		i := slices.IndexFunc(p.Ops, func(o plan.Op) bool { return o.Kind() == "enrol" })
		if i < 0 || p.Ops[i].(plan.Enrol).Certificate != "libvirt-client" || p.Ops[i].About().Reason != "it is revoked" {
			t.Errorf("renew %v: %q", renew, kinds(p.Ops))
		}
	}
	w.apply(seen, w.plan(inv, seen, Options{Renew: true}).Ops)
	if p := w.plan(inv, seen, Options{}); len(p.Ops) != 0 {
		t.Errorf("after the renewal: %q", kinds(p.Ops))
	}
}

func TestListsRule(t *testing.T) {
	w := newWorld(t)
	judge := func() (out []string) {
		for _, f := range (lists{}).Judge(nil, w.trust, w.now) {
			out = append(out, f.Code+" "+string(f.Severity))
		}
		return out
	}
	w.revoke(1)
	w.now = w.now.AddDate(1, 0, 0)
	if got := judge(); len(got) != 0 {
		t.Errorf("a list without entries: %q", got)
	}
	w.revoke(2, big.NewInt(1<<40))
	begun := w.now
	for days, want := range map[int]string{1: "", 19: "", 21: "crl-ends-soon warning", 31: "crl-ends-soon problem"} {
		w.now = begun.AddDate(0, 0, days)
		if got := strings.Join(judge(), ","); got != want {
			t.Errorf("after %d days: %q, want %q", days, got, want)
		}
	}
	w.trust.Authorities[0].Generations[0].Unlisted = []string{"aa"}
	if got := strings.Join(judge(), ","); got != "crl-behind problem" {
		t.Errorf("behind: %q", got)
	}
}

// A scheduled run renews what is due: in its window, after the pause that
// failures ask for, and an emergency at once.
func TestRenewals(t *testing.T) {
	w := newWorld(t)
	inv, seen := w.host("kvm1"), w.seen()
	w.apply(seen, w.plan(inv, seen, Options{}).Ops)
	issued := w.now
	due := w.plan(inv, seen, Options{}).Due
	closed := inventory.Window{Name: "never", Start: due.Add(-2 * time.Hour).UTC().Format("15:04"), Length: time.Hour, Zone: "UTC"}
	open := inventory.Window{Name: "now", Start: due.UTC().Format("15:04"), Length: 20 * time.Hour, Zone: "UTC"}
	enrols := func(p plan.HostPlan) int {
		n := 0
		for _, o := range p.Ops {
			if o.Kind() == "enrol" {
				n++
			} else if o.Kind() != "activate" {
				t.Errorf("renew would do %s %s", o.Kind(), o.Subject())
			}
		}
		return n
	}
	renew := func(at time.Time, windows ...inventory.Window) plan.HostPlan {
		w.now = at
		seen.Clock = at
		inv.Policy.Rollout.Windows = windows
		return w.plan(inv, seen, Options{Renew: true})
	}
	if p := renew(due.Add(-time.Second)); enrols(p) != 0 || len(p.Findings) != 0 {
		t.Errorf("before it is due: %q %q", kinds(p.Ops), codes(p))
	}
	later := due.Add(time.Minute)
	if p := renew(later); enrols(p) != 1 {
		t.Errorf("due: %q", kinds(p.Ops))
	}
	if p := renew(later, closed, open); enrols(p) != 1 {
		t.Errorf("due, in one of two windows: %q", kinds(p.Ops))
	}
	if p := renew(later, closed); enrols(p) != 0 || !slices.Contains(codes(p), CodeWaitsForWindow) {
		t.Errorf("due, outside: %q %q", kinds(p.Ops), codes(p))
	}
	end := issued.Add(89 * 24 * time.Hour)
	closed.Start = end.Add(2 * time.Hour).UTC().Format("15:04")
	if p := renew(end, closed); enrols(p) != 2 {
		t.Errorf("an emergency outside of its window: %q %q", kinds(p.Ops), codes(p))
	}
	// Failures of the same wish are waited for, those of another are not.
	o := renew(later).Ops[0].(plan.Enrol)
	fail := pki.Failure{Host: "kvm1", Certificate: o.Certificate, At: later.Add(-90 * time.Minute), Attempts: 2, Text: "x", Wish: o.Wish()}
	w.trust.Failures = []pki.Failure{fail}
	if p := renew(later); enrols(p) != 0 || !slices.Contains(codes(p), CodeBacksOff) {
		t.Errorf("90 minutes after the second failure: %q %q", kinds(p.Ops), codes(p))
	}
	if p := renew(later.Add(31 * time.Minute)); enrols(p) != 1 {
		t.Errorf("two hours after the second failure: %q %q", kinds(p.Ops), codes(p))
	}
	w.trust.Failures[0].Wish = "another"
	if p := renew(later); enrols(p) != 1 {
		t.Errorf("after failures of another wish: %q %q", kinds(p.Ops), codes(p))
	}
	// What is no renewal is left to a person.
	w.trust.Failures = nil
	for i := range inv.Policy.Certificates {
		inv.Policy.Certificates[i].DNSNames = []string{"other.example.test"}
	}
	if p := renew(issued.Add(time.Hour)); enrols(p) != 0 || !slices.Contains(codes(p), CodeNoRenewal) {
		t.Errorf("other names: %q %q", kinds(p.Ops), codes(p))
	}
	if p := renew(later); enrols(p) != 1 {
		t.Errorf("other names, and one is due: %q %q", kinds(p.Ops), codes(p))
	}
}

func TestPending(t *testing.T) {
	w := newWorld(t)
	inv := w.host("kvm1")
	from, to := w.now.Add(-time.Hour), w.now.Add(90*24*time.Hour)
	known := []Known{{"libvirt-server", from, to}, {"libvirt-client", from, to}}
	why, at := Pending(inv, known, w.now)
	if why != "" || at.Before(w.now.Add(40*24*time.Hour)) || at.After(w.now.Add(60*24*time.Hour)) {
		t.Errorf("young: %q, %s", why, at)
	}
	if why, _ := Pending(inv, known, at); !strings.Contains(why, "is due since") {
		t.Errorf("due: %q", why)
	}
	if why, _ := Pending(inv, known[:1], w.now); !strings.Contains(why, "libvirt-client is not in the ledger") {
		t.Errorf("unknown: %q", why)
	}
	inv.Policy.Rollout.Windows = []inventory.Window{{Name: "w", Start: at.Add(time.Hour).UTC().Format("15:04"), Length: time.Hour, Zone: "UTC"}}
	if why, next := Pending(inv, known, at); why != "" || next.Sub(at) > time.Hour || next.Sub(at) < 50*time.Minute {
		t.Errorf("due, its window is closed: %q, %s", why, next)
	}
	if why, _ := Pending(inv, known, to.Add(-24*time.Hour)); why == "" {
		t.Error("an emergency waits for the window")
	}
}
