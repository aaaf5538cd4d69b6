package pki_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/needed"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/internal/pki/pkitest"
)

type presented struct {
	name    string
	chain   []*pkitest.Cert
	trusted []*pkitest.Cert
	ok      bool
}

// presentedChains are chains as a peer may present them, with CA files.
func presentedChains(now time.Time) []presented {
	b := pkitest.NewBuilder(now)
	ca := func(cn, basic string, signer *pkitest.Cert, change ...func(*pkitest.Spec)) *pkitest.Cert {
		s := pkitest.Spec{CommonName: cn, Basic: basic, Usage: "c CS", Signer: signer}
		for _, f := range change {
			f(&s)
		}
		return b.Make(s)
	}
	leaf := func(signer *pkitest.Cert, names ...string) *pkitest.Cert {
		return b.Make(pkitest.Spec{CommonName: "leaf", Names: append(names, "host.example.test"), Basic: "c leaf", Usage: "c DS KE", Signer: signer})
	}
	root := ca("Root", "c ca", nil)
	one := ca("One", "c ca", root)
	two := ca("Two", "c ca", one)
	short := ca("Short", "c ca0", nil)
	below := ca("Below", "c ca", short)
	narrow := ca("Narrow", "c ca", nil, func(s *pkitest.Spec) { s.Constraint = "example.test" })
	inner := ca("Inner", "c ca", narrow)
	expired := ca("Expired", "c ca", root, func(s *pkitest.Spec) { s.Start, s.End = -48*time.Hour, -time.Hour })
	noSign := ca("NoSign", "c ca", root, func(s *pkitest.Spec) { s.Usage = "c DS" })
	notCA := leaf(root)
	other := ca("Root", "c ca", nil)
	type list = []*pkitest.Cert
	return []presented{
		{"direct", list{leaf(root)}, list{root}, true},
		{"one between", list{leaf(one), one}, list{root}, true},
		{"two between", list{leaf(two), two, one}, list{root}, true},
		{"root sent, too", list{leaf(one), one, root}, list{root}, true},
		{"gap", list{leaf(two), two}, list{root}, false},
		{"anchor is not self-signed and its issuer sent", list{leaf(two), two, one}, list{two}, false},
		{"anchor is not self-signed", list{leaf(one)}, list{one}, true},
		{"anchor is not self-signed and sent", list{leaf(one), one}, list{one}, true},
		{"anchor above what is sent", list{leaf(two), two}, list{one}, true},
		{"all trusted", list{leaf(two), two}, list{one, two, root}, true},
		{"all trusted and sent", list{leaf(two), two, one, root}, list{one, two, root}, true},
		{"path length", list{leaf(below), below}, list{short}, false},
		{"path length not reached", list{leaf(short)}, list{short}, true},
		{"constraint kept", list{leaf(inner), inner}, list{narrow}, true},
		{"constraint broken", list{leaf(inner, "host.example.org"), inner}, list{narrow}, false},
		{"expired between", list{leaf(expired), expired}, list{root}, false},
		{"may not sign", list{leaf(noSign), noSign}, list{root}, false},
		{"issued by a leaf", list{leaf(notCA), notCA}, list{root}, false},
		{"other root of the same name", list{leaf(root)}, list{other}, false},
		{"both roots of the same name", list{leaf(root)}, list{other, root}, true},
		{"expired CA beside", list{leaf(root)}, list{expired, root}, true},
		{"unknown issuer", list{leaf(short)}, list{root}, false},
	}
}

func TestJudgePeerChains(t *testing.T) {
	now := time.Now()
	for _, p := range presentedChains(now) {
		v := pki.JudgePeer(p.question(now, pki.LibvirtRules("11.3.0")))
		if v.OK != p.ok {
			t.Errorf("%s: OK = %v: %v", p.name, v.OK, v.Problems)
		}
	}
}

func (p presented) question(now time.Time, rules pki.Rules) pki.PeerQuestion {
	q := pki.PeerQuestion{Rules: rules, Role: pki.UsageServer, Now: now, Host: "host.example.test"}
	for _, c := range p.chain {
		q.Chain = append(q.Chain, c.X509.Raw)
	}
	for _, c := range p.trusted {
		q.CA = append(q.CA, c.PEM()...)
	}
	return q
}

func TestChainsAgainstCerttool(t *testing.T) {
	certtool := needed.Program(t, "certtool", "gnutls-bin")
	now := time.Now()
	for _, p := range presentedChains(now) {
		t.Run(p.name, func(t *testing.T) {
			dir := t.TempDir()
			var chain bytes.Buffer
			for _, c := range p.chain {
				chain.Write(c.PEM())
			}
			q := p.question(now, pki.Rules{})
			ca, cert := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem")
			for path, data := range map[string][]byte{ca: q.CA, cert: chain.Bytes()} {
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			out, err := exec.Command(certtool, "--verify", "--load-ca-certificate", ca, "--infile", cert).CombinedOutput()
			if v := pki.JudgePeer(q); v.OK != (err == nil) {
				t.Errorf("certtool: %v, JudgePeer: %v %v\n%s", err, v.OK, v.Problems, out)
			}
		})
	}
}

func TestJudgePeerRefuses(t *testing.T) {
	_, ca, key := newCA(t)
	leaf := sign(t, ca, key, leafProfile()).Cert
	base := pki.PeerQuestion{Rules: pki.LibvirtRules("11.6.0"), Role: pki.UsageServer, Now: testNow, Chain: [][]byte{leaf.Raw}, CA: pki.RenderCerts(ca), Host: "192.0.2.1"}
	if v := pki.JudgePeer(base); !v.OK {
		t.Fatalf("%v", v.Problems)
	}
	for code, change := range map[string]func(*pki.PeerQuestion){
		"cert-missing":       func(q *pki.PeerQuestion) { q.Chain = nil },
		"cert-unreadable":    func(q *pki.PeerQuestion) { q.Chain = [][]byte{{1}} },
		"cert-expired":       func(q *pki.PeerQuestion) { q.Now = leaf.NotAfter.Add(time.Second) },
		"cert-not-yet-valid": func(q *pki.PeerQuestion) { q.Now = leaf.NotBefore.Add(-time.Second) },
		"host-mismatch":      func(q *pki.PeerQuestion) { q.Host = "192.0.2.2" },
		"purpose":            func(q *pki.PeerQuestion) { q.Role = pki.UsageClient },
		"dn-refused":         func(q *pki.PeerQuestion) { q.Role, q.CheckDN = pki.UsageClient, true },
		"ca-missing":         func(q *pki.PeerQuestion) { q.CA = nil },
	} {
		q := base
		change(&q)
		if v := pki.JudgePeer(q); !v.Has(code) {
			t.Errorf("no problem %q: %+v", code, v)
		}
	}
	q := base
	q.Rules, q.Role = pki.QEMURules("11.1.2"), pki.UsageClient
	if v := pki.JudgePeer(q); !v.OK {
		t.Errorf("QEMU looks at a peer's extended key usage: %v", v.Problems)
	}
}
