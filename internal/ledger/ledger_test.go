package ledger

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/virtrust/virtrust/internal/pki"
)

func TestIssuanceLife(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	first, leaf1 := f.issue(t)
	if got := f.state(t, first); got != StateSigned {
		t.Fatalf("after signing: %s", got)
	}
	if err := f.MarkInstalled(ctx, f.run, "kvm1", "libvirt-server", leaf1); err != nil {
		t.Fatal(err)
	}
	lost, _ := f.issue(t)
	second, leaf2 := f.issue(t)
	if err := f.MarkInstalled(ctx, f.run, "kvm1", "libvirt-server", leaf2); err != nil {
		t.Fatal(err)
	}
	check := func(when string, want ...State) {
		t.Helper()
		if got := []State{f.state(t, first), f.state(t, lost), f.state(t, second)}; !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	check("renewed", StateSuperseded, StateSuperseded, StateInstalled)
	if err := f.MarkInstalled(ctx, f.run, "kvm1", "libvirt-server", leaf1); err != nil {
		t.Fatal(err)
	}
	check("rolled back", StateInstalled, StateSuperseded, StateSuperseded)
	i, err := f.IssuanceByLeaf(ctx, leaf2)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(i.Profile, profile) || i.Run != f.run || len(i.Cert) == 0 {
		t.Errorf("the profile or run did not survive: %+v", i)
	}
	if err := f.Revoke(ctx, f.run, Revocation{Authority: "libvirt", Generation: 1, Serial: i.Serial, Reason: "keyCompromise"}); err != nil {
		t.Fatal(err)
	}
	check("revoked", StateInstalled, StateSuperseded, StateRevoked)
	for name, err := range map[string]error{
		"a revoked leaf":       f.MarkInstalled(ctx, f.run, "kvm1", "libvirt-server", leaf2),
		"another host":         f.MarkInstalled(ctx, f.run, "kvm2", "libvirt-server", leaf1),
		"another certificate":  f.MarkInstalled(ctx, f.run, "kvm1", "qemu", leaf1),
		"a second certificate": f.FinishIssuance(ctx, first, i.Cert),
		"abandoned too late":   f.AbandonIssuance(ctx, first, "x"),
	} {
		if !errors.Is(err, ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.MarkInstalled(ctx, f.run, "kvm1", "libvirt-server", strings.Repeat("0", 64)); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown leaf: %v", err)
	}
	if all, err := f.Issuances(ctx, Filter{State: StateInstalled, Host: "kvm1"}); err != nil || len(all) != 1 || all[0].ID != first {
		t.Errorf("installed: %v, %v", all, err)
	}
}

func TestIssuanceRefuses(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	csr, n := newCSR(t), serial(t)
	good := f.intent(csr, pki.SerialText(n))
	id, err := f.BeginIssuance(ctx, good)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.BeginIssuance(ctx, good); !errors.Is(err, ErrSerialTaken) {
		t.Errorf("the same serial: %v", err)
	}
	other := pki.SerialText(serial(t))
	for name, i := range map[string]func(*Intent){
		"unknown generation": func(i *Intent) { i.Generation = 2 },
		"unknown authority":  func(i *Intent) { i.Authority = "qemu" },
		"unknown run":        func(i *Intent) { i.Run = "none" },
		"upper-case serial":  func(i *Intent) { i.Serial = "ABC" },
		"no host":            func(i *Intent) { i.Host = "" },
		"no key":             func(i *Intent) { i.SPKISHA256 = "" },
	} {
		bad := f.intent(csr, other)
		i(&bad)
		if _, err := f.BeginIssuance(ctx, bad); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	foreign, err := pki.SignLeaf(time.Now(), f.ca, f.key, newCSR(t), profile, n)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.FinishIssuance(ctx, id, foreign.Cert.Raw); err == nil {
		t.Error("a certificate with another key is accepted")
	}
	foreign, err = pki.SignLeaf(time.Now(), f.ca, f.key, csr, profile, serial(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.FinishIssuance(ctx, id, foreign.Cert.Raw); err == nil {
		t.Error("a certificate with another serial is accepted")
	}
	if err := f.AbandonIssuance(ctx, id, "the host went away"); err != nil || f.state(t, id) != StateOrphan {
		t.Errorf("abandoned: %v, %s", err, f.state(t, id))
	}
	if err := f.EndRun(ctx, f.run, "done"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.BeginIssuance(ctx, f.intent(csr, other)); !errors.Is(err, ErrState) {
		t.Errorf("an intent in an ended run: %v", err)
	}
	if err := f.EndRun(ctx, f.run, "done"); !errors.Is(err, ErrState) {
		t.Errorf("ended twice: %v", err)
	}
}

func TestOnlyTheIssuingGenerationSigns(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	if err := f.SetPhase(ctx, f.run, "libvirt", 1, pki.PhaseDraining); err != nil {
		t.Fatal(err)
	}
	if _, err := f.BeginIssuance(ctx, f.intent(newCSR(t), "1")); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "draining") {
		t.Errorf("a draining generation: %v", err)
	}
	if err := f.SetPhase(ctx, f.run, "libvirt", 1, "no such phase"); err == nil {
		t.Error("an unknown phase is accepted")
	}
	if err := f.SetPhase(ctx, f.run, "libvirt", 7, pki.PhaseRetired); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown generation: %v", err)
	}
}

func TestLostRuns(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	alive := f.run
	aliveIntent, err := f.BeginIssuance(ctx, f.intent(newCSR(t), pki.SerialText(serial(t))))
	if err != nil {
		t.Fatal(err)
	}
	lose := func(process string) (run string, id int64) {
		t.Helper()
		f.run = startRun(t, f.Ledger)
		id, err := f.BeginIssuance(ctx, f.intent(newCSR(t), pki.SerialText(serial(t))))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.db.Exec("UPDATE run SET process = json_patch(process, ?) WHERE id = ?", process, f.run); err != nil {
			t.Fatal(err)
		}
		return f.run, id
	}
	_, reused := lose(`{"start":"1"}`)
	_, rebooted := lose(`{"boot":"another"}`)
	_, elsewhere := lose(`{"boot":"another","machine":"another"}`)
	_, container := lose(`{"namespace":"pid:[1]"}`)
	check := func(when string, l *Ledger, want map[int64]State) {
		t.Helper()
		for id, state := range want {
			if i, err := issuance(ctx, l.db, "id = ?", id); err != nil || i.State != state {
				t.Errorf("%s: issuance %d is %s, want %s (%v)", when, id, i.State, state, err)
			}
		}
	}
	check("opened for reading", open(t, f.path, ReadOnly), map[int64]State{aliveIntent: StateIntent, reused: StateIntent})
	check("opened", open(t, f.path, Existing), map[int64]State{aliveIntent: StateIntent, reused: StateOrphan, rebooted: StateOrphan, elsewhere: StateIntent, container: StateIntent})
	tomorrow := open(t, f.path, Existing, WithClock(func() time.Time { return time.Now().Add(25 * time.Hour) }))
	check("a day later", tomorrow, map[int64]State{aliveIntent: StateIntent, elsewhere: StateOrphan, container: StateOrphan})
	runs, err := tomorrow.Runs(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range runs {
		if lost := r.Result == ResultLost && !r.Ended.IsZero(); lost == (r.ID == alive) {
			t.Errorf("run %s of %s has result %q", r.ID, alive, r.Result)
		}
	}
	if err := tomorrow.Verify(ctx); err != nil {
		t.Error(err)
	}
}

func TestAuditIsAppendOnly(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	f.issue(t)
	if err := f.Audit(ctx, Event{Run: f.run, Action: "host.unlock", Subject: "kvm1", Detail: "bad\xffbytes" + strings.Repeat("é", maxText)}); err != nil {
		t.Fatal(err)
	}
	events, err := f.Events(ctx, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, e := range events {
		actions = append(actions, e.Action)
	}
	if want := []string{"generation.added", "run.started", "issuance.intent", "issuance.signed", "host.unlock"}; !slices.Equal(actions, want) {
		t.Errorf("actions %v, want %v", actions, want)
	}
	if last := events[len(events)-1].Detail; len(last) > maxText || !utf8.ValidString(last) {
		t.Errorf("detail of %d bytes, valid %v", len(last), utf8.ValidString(last))
	}
	if err := f.Verify(ctx); err != nil {
		t.Fatal(err)
	}
	for _, stmt := range []string{
		"UPDATE audit SET detail = 'x' WHERE seq = 2",
		"DELETE FROM audit WHERE seq = 5",
		"INSERT OR REPLACE INTO audit SELECT seq, at, run, action, subject, 'x', prev_hash, 'h' FROM audit WHERE seq = 2",
		"INSERT INTO audit VALUES (9, '', '', '', '', '', (SELECT hash FROM audit WHERE seq = 5), 'h')",
		"INSERT INTO audit VALUES (6, '', '', '', '', '', 'wrong', 'h')",
	} {
		if _, err := f.db.Exec(stmt); err == nil || !strings.Contains(err.Error(), "audit rows are") {
			t.Errorf("%s: %v", stmt, err)
		}
	}
	if err := f.Verify(ctx); err != nil {
		t.Fatal(err)
	}
	for _, stmt := range []string{"DROP TRIGGER audit_no_update", "UPDATE audit SET detail = 'x' WHERE seq = 2"} {
		if _, err := f.db.Exec(stmt); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Verify(ctx); err == nil || !strings.Contains(err.Error(), "row 2") {
		t.Errorf("a changed row: %v", err)
	}
}

func TestProofsAndFailures(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	fail := func(cert, class, text string) {
		t.Helper()
		if err := f.RecordFailure(ctx, Failure{Host: "kvm1", Certificate: cert, Class: class, Text: text, Run: f.run}); err != nil {
			t.Fatal(err)
		}
	}
	fail("libvirt-server", "unreachable", "")
	fail("libvirt-server", "refused", "tls: bad\x00\xff")
	fail("qemu", "refused", "x")
	got, err := f.Failures(ctx)
	if err != nil || len(got) != 2 {
		t.Fatalf("failures %v, %v", got, err)
	}
	if got[0].Attempts != 2 || got[0].Text != "refused: tls: bad\x00\uFFFD" || got[0].At.IsZero() {
		t.Errorf("failure %+v", got[0])
	}
	prove := func(leaf string, peers ...string) {
		t.Helper()
		p := Proof{Proof: pki.Proof{Host: "kvm1", Certificate: "libvirt-server", LeafSHA256: leaf, Peers: peers, Loaded: []string{"aa"}}, BundleDigest: "bb", Run: f.run}
		if err := f.RecordProof(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.RecordProof(ctx, Proof{Proof: pki.Proof{Host: "kvm1", Certificate: "qemu", LeafSHA256: "01"}, Run: "none"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a proof of an unknown run: %v", err)
	}
	prove("01", "kvm2", "kvm3")
	prove("02")
	proofs, err := f.Proofs(ctx)
	if err != nil || len(proofs) != 1 || proofs[0].LeafSHA256 != "02" || len(proofs[0].Peers) != 0 || proofs[0].Loaded[0] != "aa" || proofs[0].BundleDigest != "bb" {
		t.Errorf("proofs %+v, %v", proofs, err)
	}
	if got, err := f.Failures(ctx); err != nil || len(got) != 1 || got[0].Certificate != "qemu" {
		t.Errorf("failures after a proof: %v, %v", got, err)
	}
	fail("libvirt-server", "refused", "again")
	if got, _ := f.Failures(ctx); got[0].Attempts != 1 {
		t.Errorf("attempts after a proof: %+v", got[0])
	}
}

func TestTrust(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	_, leaf := f.issue(t)
	i, err := f.IssuanceByLeaf(ctx, leaf)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Revoke(ctx, f.run, Revocation{Authority: "libvirt", Generation: 1, Serial: i.Serial}); err != nil {
		t.Fatal(err)
	}
	if err := f.RecordProof(ctx, Proof{Proof: pki.Proof{Host: "kvm1", Certificate: "libvirt-server", LeafSHA256: leaf}, Run: f.run}); err != nil {
		t.Fatal(err)
	}
	if err := f.RecordFailure(ctx, Failure{Host: "kvm1", Certificate: "libvirt-server", Class: "refused", Run: f.run}); err != nil {
		t.Fatal(err)
	}
	if err := f.SetPhase(ctx, f.run, "libvirt", 1, pki.PhaseDraining); err != nil {
		t.Fatal(err)
	}
	public := pki.Authority{Name: "libvirt", Generations: []pki.Generation{f.generation()}}
	public.Generations[0].Revoked = []string{"ff", i.Serial}
	trust, err := f.Trust(ctx, []pki.Authority{public, {Name: "qemu"}})
	if err != nil {
		t.Fatal(err)
	}
	g := trust.Authorities[0].Generations[0]
	want := []string{"ff", i.Serial}
	slices.Sort(want)
	if g.Phase != pki.PhaseDraining || !slices.Equal(g.Revoked, want) || len(trust.Proofs) != 1 || len(trust.Failures) != 1 || len(trust.Authorities) != 2 {
		t.Errorf("trust %+v", trust)
	}
	if public.Generations[0].Phase != pki.PhaseIssuing || public.Generations[0].Revoked[0] != "ff" {
		t.Error("the caller's value was changed")
	}
	_, otherCA := newCA(t, 1)
	_, secondCA := newCA(t, 2)
	for name, a := range map[string]pki.Authority{
		"another fleet's key": {Name: "libvirt", Generations: []pki.Generation{{Number: 1, Cert: otherCA.Raw}}},
		"not in the ledger":   {Name: "qemu", Generations: []pki.Generation{{Number: 1, Cert: otherCA.Raw}}},
		"files too new":       {Name: "libvirt", Generations: []pki.Generation{f.generation(), {Number: 2, Cert: secondCA.Raw}}},
		"files missing":       {Name: "libvirt"},
	} {
		if err := f.Check(ctx, a); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := f.Trust(ctx, []pki.Authority{a}); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: trust: %v", name, err)
		}
	}
	if err := f.Check(ctx, public); err != nil {
		t.Error(err)
	}
	if err := f.AddGeneration(ctx, f.run, "libvirt", f.generation()); err != nil {
		t.Errorf("the same generation again: %v", err)
	}
	if err := f.AddGeneration(ctx, f.run, "libvirt", pki.Generation{Number: 1, Phase: pki.PhaseIssuing, Cert: otherCA.Raw}); !errors.Is(err, ErrForeign) {
		t.Errorf("another key under the number: %v", err)
	}
	if err := f.AddGeneration(ctx, f.run, "qemu", f.generation()); !errors.Is(err, ErrForeign) {
		t.Errorf("one key in two authorities: %v", err)
	}
}

func TestCRLNumbersGrow(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	var numbers []uint64
	for range 3 {
		n, err := f.BeginCRL(ctx, f.run, "libvirt", 1)
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, n)
	}
	if !slices.Equal(numbers, []uint64{1, 2, 3}) {
		t.Errorf("numbers %v", numbers)
	}
	list, err := pki.NewCRL(time.Now(), f.ca, f.key, 2, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.FinishCRL(ctx, f.run, "libvirt", 1, list.Raw); err != nil {
		t.Fatal(err)
	}
	if err := f.FinishCRL(ctx, f.run, "libvirt", 1, list.Raw); !errors.Is(err, ErrState) {
		t.Errorf("finished twice: %v", err)
	}
	if _, err := f.BeginCRL(ctx, f.run, "qemu", 1); err == nil {
		t.Error("an unknown authority got a number")
	}
}
