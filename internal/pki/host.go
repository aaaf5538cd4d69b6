package pki

import (
	"crypto/x509"
	"encoding/asn1"
	"net/netip"
	"strings"
)

var oidExtAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// MatchHost reports whether a certificate is for the name or address dialled,
// by the rule of gnutls_x509_crt_check_hostname (compared with 3.7.9): an
// address is looked for among the iPAddress names and, for certificates that
// list an address as a name, among the dNSName ones; a name among the dNSName
// ones. The CN counts for a name alone, and only where the certificate has no
// alternative name of the kinds dNSName, iPAddress and URI.
func MatchHost(c *x509.Certificate, host string) bool {
	ip, err := netip.ParseAddr(host)
	isIP := err == nil && ip.Zone() == ""
	if isIP {
		for _, have := range c.IPAddresses {
			if a, ok := netip.AddrFromSlice(have); ok && a == ip {
				return true
			}
		}
	}
	dns, others := altNames(c)
	for _, name := range dns {
		if matchName(name, host) {
			return true
		}
	}
	if isIP || len(dns) > 0 || others {
		return false
	}
	cn, one := commonName(c.RawSubject)
	return one && matchName(cn, host)
}

// altNames lists the dNSName entries, and whether there are others that make
// the CN count no more. The extension is read here because Go's fields lose the
// kinds that it does not know.
func altNames(c *x509.Certificate) (dns []string, others bool) {
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidExtAltName) {
			continue
		}
		var names []asn1.RawValue
		if _, err := asn1.Unmarshal(e.Value, &names); err != nil {
			return nil, true
		}
		for _, n := range names {
			switch n.Tag {
			case 2:
				dns = append(dns, string(n.Bytes))
			case 6, 7:
				others = true
			}
		}
	}
	return dns, others
}

// matchName compares without regard to case. A star at the very start of a
// name with at least two dots stands for any run of characters other than a
// dot; elsewhere it is no wildcard.
func matchName(pattern, host string) bool {
	if !isASCII(pattern) || !isASCII(host) || strings.Contains(pattern, "\x00") {
		return false
	}
	pattern, host = strings.ToLower(pattern), strings.ToLower(host)
	tail, wildcard := strings.CutPrefix(pattern, "*")
	if !wildcard {
		return pattern == host
	}
	if strings.Count(tail, ".") < 2 {
		return false
	}
	label, _, _ := strings.Cut(host, ".")
	rest, ok := strings.CutSuffix(host, tail)
	return ok && len(rest) <= len(label)
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 127 }) < 0
}

// commonName gives the CN if there is exactly one.
func commonName(raw []byte) (string, bool) {
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	type rdnSET []attribute
	var seq []rdnSET
	if _, err := asn1.Unmarshal(raw, &seq); err != nil {
		return "", false
	}
	cn, n := "", 0
	for _, rdn := range seq {
		for _, a := range rdn {
			if a.Type.Equal(oidCommonName) {
				cn, n = string(a.Value.Bytes), n+1
			}
		}
	}
	return cn, n == 1
}
