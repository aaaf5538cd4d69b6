package pki_test

import (
	"encoding/asn1"
	"encoding/hex"
	"testing"

	"github.com/virtrust/virtrust/internal/pki"
)

type rdn struct {
	oid  []int
	tag  int
	text string
}

func name(t *testing.T, rdns ...rdn) []byte {
	t.Helper()
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	type rdnSET []attribute
	seq := []rdnSET{}
	for _, r := range rdns {
		seq = append(seq, rdnSET{{r.oid, asn1.RawValue{Tag: r.tag, Bytes: []byte(r.text)}}})
	}
	raw, err := asn1.Marshal(seq)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

var (
	oidC     = []int{2, 5, 4, 6}
	oidO     = []int{2, 5, 4, 10}
	oidCN    = []int{2, 5, 4, 3}
	oidEmail = []int{1, 2, 840, 113549, 1, 9, 1}
)

// The wanted strings are what gnutls_x509_crt_get_dn of GnuTLS 3.7.9 gave.
func TestDNString(t *testing.T) {
	const utf8, printable, ia5, t61 = asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, asn1.TagT61String
	for _, c := range []struct {
		want string
		rdns []rdn
	}{
		{`C=GB,ST=LDN,L=London,O=Acme\, Inc,OU=virt,CN=host1`, []rdn{{oidC, printable, "GB"}, {[]int{2, 5, 4, 8}, utf8, "LDN"},
			{[]int{2, 5, 4, 7}, utf8, "London"}, {oidO, utf8, "Acme, Inc"}, {[]int{2, 5, 4, 11}, utf8, "virt"}, {oidCN, utf8, "host1"}}},
		{`O=\ lead`, []rdn{{oidO, utf8, " lead"}}},
		{`O=trail\ `, []rdn{{oidO, utf8, "trail "}}},
		{`O=\#x`, []rdn{{oidO, utf8, "#x"}}},
		{`O=a\,b\+c\"d\\e\<f\>g\;h`, []rdn{{oidO, utf8, `a,b+c"d\e<f>g;h`}}},
		{`O=a=b`, []rdn{{oidO, utf8, "a=b"}}},
		{`O=*?`, []rdn{{oidO, utf8, "*?"}}},
		{`C=#0c02554b`, []rdn{{oidC, utf8, "UK"}}},
		{`CN=#1602554b`, []rdn{{oidCN, ia5, "UK"}}},
		{`EMAIL=a@b`, []rdn{{oidEmail, ia5, "a@b"}}},
		{`EMAIL=#1302554b`, []rdn{{oidEmail, printable, "UK"}}},
		{`O=\#61fc`, []rdn{{oidO, t61, "a\xfc"}}},
		{`1.2.3.4=#1302554b`, []rdn{{[]int{1, 2, 3, 4}, printable, "UK"}}},
	} {
		got, err := pki.DNString(name(t, c.rdns...))
		if err != nil || got != c.want {
			t.Errorf("got %q, %v; want %q", got, err, c.want)
		}
	}
	for _, bad := range [][]byte{nil, {0x30}, name(t), name(t, rdn{oidO, utf8, ""}), append(name(t, rdn{oidO, utf8, "x"}), 0)} {
		if got, err := pki.DNString(bad); err == nil {
			t.Errorf("no error for %x but %q", bad, got)
		}
	}
}

// The order and the encoding of our subjects must not move with the toolchain:
// tls_allowed_dn_list matches them.
func TestSubjectIsPinned(t *testing.T) {
	p := pki.Profile{Name: "libvirt-client", CommonName: "kvm1.example.org", Organization: "Example", OrganizationalUnit: "libvirt"}
	dn, err := p.SubjectDN()
	if err != nil || dn != "O=Example,OU=libvirt,CN=kvm1.example.org" {
		t.Errorf("got %q, %v", dn, err)
	}
	_, caCert, caKey := newCA(t)
	p = leafProfile()
	leaf := sign(t, caCert, caKey, p)
	if got := hex.EncodeToString(leaf.Cert.RawSubject); got != goldenSubject {
		t.Errorf("encoded subject\n got %s\nwant %s", got, goldenSubject)
	}
}

func TestMatchDN(t *testing.T) {
	for _, c := range []struct {
		glob, dn string
		want     bool
	}{
		{"O=acme,OU=virt,CN=*", "O=acme,OU=virt,CN=clib", true},
		{"*CN=cli?", "O=acme,OU=virt,CN=clib", true},
		{"CN=clib,OU=virt,O=acme", "O=acme,OU=virt,CN=clib", false},
		{"O=acme, OU=virt, CN=clib", "O=acme,OU=virt,CN=clib", false},
		{"*CN=host1*", "CN=host10", true},
		{"[a-z]*", "abc", false},
		{"?", "ü", true},
		{"", "", true},
		{"*", "", true},
		{"a*b*c", "aXbXbXc", true},
		{"a*b*c", "aXbXbX", false},
	} {
		if got := pki.MatchDN(c.glob, c.dn); got != c.want {
			t.Errorf("MatchDN(%q, %q) = %v", c.glob, c.dn, got)
		}
	}
}
