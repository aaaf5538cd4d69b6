package pki

import (
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"
)

var (
	oidOrganization = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidUnit         = asn1.ObjectIdentifier{2, 5, 4, 11}
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
)

// Attribute names as GnuTLS prints them.
var dnNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.4": "surName", "2.5.4.5": "serialNumber", "2.5.4.6": "C",
	"2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "street", "2.5.4.10": "O", "2.5.4.11": "OU",
	"2.5.4.12": "title", "2.5.4.13": "description", "2.5.4.15": "businessCategory",
	"2.5.4.17": "postalCode", "2.5.4.20": "telephoneNumber", "2.5.4.41": "name",
	"2.5.4.42": "givenName", "2.5.4.43": "initials", "2.5.4.44": "generationQualifier",
	"2.5.4.46": "dnQualifier", "2.5.4.65": "pseudonym",
	"0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.25": "DC",
	"1.2.840.113549.1.9.1": "EMAIL",
	"1.3.6.1.5.5.7.9.2":    "placeOfBirth", "1.3.6.1.5.5.7.9.3": "gender",
	"1.3.6.1.5.5.7.9.4": "countryOfCitizenship", "1.3.6.1.5.5.7.9.5": "countryOfResidence",
	"1.3.6.1.4.1.311.60.2.1.1": "jurisdictionOfIncorporationLocalityName",
	"1.3.6.1.4.1.311.60.2.1.2": "jurisdictionOfIncorporationStateOrProvinceName",
	"1.3.6.1.4.1.311.60.2.1.3": "jurisdictionOfIncorporationCountryName",
}

// subjectDER encodes O, OU and CN in this order, each as UTF8String, leaving
// out what is empty. The order is ours and not that of a library, because
// tls_allowed_dn_list matches the encoded order.
func subjectDER(organization, unit, commonName string) ([]byte, error) {
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value string `asn1:"utf8"`
	}
	type rdnSET []attribute
	var seq []rdnSET
	for _, a := range []attribute{{oidOrganization, organization}, {oidUnit, unit}, {oidCommonName, commonName}} {
		if a.Value != "" {
			seq = append(seq, rdnSET{a})
		}
	}
	return asn1.Marshal(seq)
}

// DNString renders a distinguished name as libvirt matches it against
// tls_allowed_dn_list (gnutls_x509_crt_get_dn): in encoding order, without
// spaces after commas, with RFC 4514 escapes. It is the reverse of what
// certtool and openssl print. raw is the DER of the name, such as
// x509.Certificate.RawSubject. An attribute without a value is an error, as it
// is for GnuTLS. Compared with GnuTLS 3.7.9.
func DNString(raw []byte) (string, error) {
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	type rdnSET []attribute
	var seq []rdnSET
	if rest, err := asn1.Unmarshal(raw, &seq); err != nil {
		return "", fmt.Errorf("reading a distinguished name: %w", err)
	} else if len(rest) > 0 {
		return "", fmt.Errorf("reading a distinguished name: %d bytes follow it", len(rest))
	}
	if len(seq) == 0 {
		return "", fmt.Errorf("reading a distinguished name: it is empty, which GnuTLS refuses")
	}
	var b strings.Builder
	for i, rdn := range seq {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, a := range rdn {
			if j > 0 {
				b.WriteByte('+')
			}
			name, known := dnNames[a.Type.String()]
			if len(a.Value.Bytes) == 0 {
				return "", fmt.Errorf("reading a distinguished name: its attribute %s is empty, which GnuTLS refuses", a.Type)
			}
			text, isText := dnText(a.Value)
			switch name {
			case "C", "serialNumber", "telephoneNumber", "dnQualifier", "gender",
				"countryOfCitizenship", "countryOfResidence", "jurisdictionOfIncorporationCountryName":
				isText = isText && a.Value.Tag == asn1.TagPrintableString
			case "DC", "EMAIL":
				isText = isText && a.Value.Tag == asn1.TagIA5String
			default:
				isText = isText && a.Value.Tag != asn1.TagIA5String && a.Value.Tag != asn1.TagNumericString
			}
			if !known || !isText {
				if !known {
					name = a.Type.String()
				}
				b.WriteString(name + "=#" + hex.EncodeToString(a.Value.FullBytes))
				continue
			}
			b.WriteString(name + "=" + escapeDN(text))
		}
	}
	return b.String(), nil
}

func dnText(v asn1.RawValue) (string, bool) {
	if v.Class != asn1.ClassUniversal {
		return "", false
	}
	switch v.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString:
		return string(v.Bytes), utf8.Valid(v.Bytes)
	case asn1.TagT61String:
		if !isASCII(string(v.Bytes)) {
			return "#" + hex.EncodeToString(v.Bytes), true
		}
		return string(v.Bytes), true
	case asn1.TagBMPString:
		var s string
		_, err := asn1.Unmarshal(v.FullBytes, &s)
		return s, err == nil
	}
	return "", false
}

func escapeDN(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == 0:
			b.WriteString(`\00`)
		case strings.IndexByte(`,+"\<>;`, c) >= 0, c == '#' && i == 0, c == ' ' && (i == 0 || i == len(s)-1):
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// SubjectDN is the distinguished name that a leaf of this profile gets, in the
// form that tls_allowed_dn_list wants.
func (p Profile) SubjectDN() (string, error) {
	raw, err := subjectDER(p.Organization, p.OrganizationalUnit, p.CommonName)
	if err != nil {
		return "", fmt.Errorf("certificate %q: encoding the subject: %w", p.Name, err)
	}
	return DNString(raw)
}

// MatchDN reports whether a glob of tls_allowed_dn_list matches a
// distinguished name as DNString renders it. * stands for any run of
// characters and ? for one (g_pattern_match_simple); nothing else is special.
func MatchDN(glob, dn string) bool {
	p, s := []rune(glob), []rune(dn)
	star, mark := -1, 0
	i, j := 0, 0
	for j < len(s) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == s[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}

// quoteDN names a certificate in a message; the name may come from anyone.
func quoteDN(raw []byte) string {
	s, err := DNString(raw)
	if err != nil {
		return "(unreadable name)"
	}
	if len(s) > 200 {
		s = s[:200] + "..."
	}
	return fmt.Sprintf("%q", s)
}
