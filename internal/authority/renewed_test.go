package authority

import (
	"errors"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/internal/authority/authoritytest"
	"github.com/virtrust/virtrust/internal/pki"
)

// A CA that was renewed with its key stays the generation that it is: what it
// signed is accepted with the new certificate as with the old one.
func TestImportRenewed(t *testing.T) {
	c := authoritytest.NewCompany(t)
	p := imported(t, c)
	leaf, err := p.command(t, c.Dir+"/sign.sh").Sign(t.Context(), p.foreign(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	c.Run(t, `
renew() { openssl x509 -req -in "$1" -CA root.crt -CAkey root.key -CAcreateserial -days "$2" -extfile "$3" -out new.crt && cat new.crt root.crt >"$4"; }
renew sub.csr 1500 sub.ext renewed.pem
renew sub.csr 500 sub.ext shorter.pem
sed 's/subjectKeyIdentifier=hash/subjectKeyIdentifier=0102030405/' sub.ext >id.ext
renew sub.csr 1500 id.ext identifier.pem
openssl req -new -key sub.key -subj "/O=Company/CN=Company Issuing 2" -out name.csr
renew name.csr 1500 sub.ext name.pem
openssl req -x509 -new -key root.key -subj "/O=Company/CN=Company Root" -days 4000 -out root2.crt -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign,cRLSign
openssl x509 -in renewed.pem >both.pem; cat root2.crt >>both.pem`)
	bring := func(file string) (pki.Authority, error) {
		return Import(t.Context(), ImportParams{Name: "corp", Dir: p.dir("corp"), Chain: c.Read(t, file), Run: p.run}, p.l)
	}
	for file, want := range map[string]string{
		"shorter.pem": "before the certificate of generation 1", "identifier.pem": "another key identifier", "name.pem": `has the key of generation 1, which is "Company Issuing 1"`,
	} {
		if _, err := bring(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
	for _, file := range []string{"renewed.pem", "both.pem"} { // the second renews the root alone
		a, err := bring(file)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		want, _ := parseChain(c.Read(t, file))
		g := a.Generations[0]
		if len(a.Generations) != 1 || g.Phase != pki.PhaseIssuing || string(g.Cert) != string(want[0].Raw) || string(g.Parents[0]) != string(want[1].Raw) {
			t.Errorf("%s is imported as %+v", file, a.Generations)
		}
		if err := leaf[0].CheckSignatureFrom(want[0]); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if known, err := p.l.Generations(t.Context(), "corp"); err != nil || len(known) != 1 || !known[0].NotAfter.Equal(want[0].NotAfter) {
			t.Errorf("%s: the ledger has %+v, %v", file, known, err)
		}
		if _, err := bring(file); !errors.Is(err, ErrExists) {
			t.Errorf("%s once more: %v", file, err)
		}
	}
	// What is on hosts is ours, so that it leaves with the same write.
	old, _ := parseChain(c.Read(t, "chain.pem"))
	young, _ := parseChain(c.Read(t, "both.pem"))
	if got, foreign := pki.Merge(&pki.Bundle{Certs: old}, young, young); len(foreign) > 0 || len(got.Certs) != 2 {
		t.Errorf("a bundle with the former certificates becomes %d certificates, %d of them foreign", len(got.Certs), len(foreign))
	}
	if _, err := p.command(t, c.Dir+"/sign.sh").Sign(t.Context(), p.foreign(t, nil)); err != nil {
		t.Errorf("signing after the renewal: %v", err)
	}
}
