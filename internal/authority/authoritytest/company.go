// Package authoritytest plays the CAs of other people for tests.
package authoritytest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A Company is a CA that openssl runs in a directory: a root (root.crt), an
// issuing CA below it (sub.crt), both in chain.pem, and sign.sh, a program as
// authority.Command wants it.
type Company struct{ Dir string }

// NewCompany makes the CA. openssl must be there.
func NewCompany(t testing.TB) *Company {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is needed: it plays the company's CA")
	}
	c := &Company{Dir: t.TempDir()}
	c.Run(t, `
openssl ecparam -name prime256v1 -genkey -noout -out root.key
openssl req -x509 -new -key root.key -subj "/O=Company/CN=Company Root" -days 3650 -out root.crt \
	-addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign,cRLSign
openssl ecparam -name prime256v1 -genkey -noout -out sub.key
openssl req -new -key sub.key -subj "/O=Company/CN=Company Issuing 1" -out sub.csr
printf 'basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n' >sub.ext
openssl x509 -req -in sub.csr -CA root.crt -CAkey root.key -CAcreateserial -days 1000 -extfile sub.ext -out sub.crt
cat sub.crt root.crt >chain.pem
cat >sign.sh <<'end'
#!/bin/sh
# Signs the request on standard input with the names that it has.
cd "$(dirname "$0")" || exit 1
t=$(mktemp -d) && trap 'rm -rf "$t"' EXIT
cat >"$t/csr"
eku=; for u in $(echo "$VIRTRUST_USAGES" | tr , ' '); do eku="$eku,${u}Auth"; done
{
	echo "keyUsage=critical,digitalSignature,keyEncipherment"
	echo "extendedKeyUsage=critical${eku}"
	echo "subjectKeyIdentifier=hash"
	echo "authorityKeyIdentifier=keyid"
	openssl req -in "$t/csr" -noout -text | sed -n '/^ *\(DNS\|IP Address\):/{s/^ */subjectAltName=/;s/IP Address:/IP:/g;p;}'
} >"$t/ext"
openssl x509 -req -in "$t/csr" -CA sub.crt -CAkey sub.key -set_serial "0x$(openssl rand -hex 16)" -days "$VIRTRUST_DAYS" -extfile "$t/ext" 2>"$t/err" || { cat "$t/err" >&2; exit 1; }
cat sub.crt
end
chmod +x sign.sh
`)
	return c
}

// Run runs a script in the directory.
func (c *Company) Run(t testing.TB, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = c.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// Read reads a file of the directory.
func (c *Company) Read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(c.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
