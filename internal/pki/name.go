package pki

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// CheckHostname reports why name cannot be a DNS name of a certificate. Allowed
// are lower-case letters, digits, hyphens and dots as RFC 1123 has them, at
// most 253 characters, with no wildcard and no dot at the end. What passes is
// also safe as a word of a shell and in a configuration file.
func CheckHostname(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the name is empty")
	case len(name) > 253:
		return fmt.Errorf("name of %d characters, DNS allows 253", len(name))
	case strings.Contains(name, "*"):
		return fmt.Errorf("%q is a wildcard: list each name, a wildcard would let one host stand for another", name)
	case strings.HasSuffix(name, "."):
		return fmt.Errorf("%q ends in a dot: leave it out", name)
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if err := checkLDH(label); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return fmt.Errorf("%q ends in a number and would be taken for an address: list addresses as addresses", name)
	}
	return nil
}

// CheckLabel reports why name cannot be the name of a certificate or an
// authority: it becomes part of file names, so it is one DNS label.
func CheckLabel(name string) error {
	if err := checkLDH(name); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	return nil
}

func checkLDH(label string) error {
	if label == "" {
		return fmt.Errorf("a part of the name is empty")
	}
	if len(label) > 63 {
		return fmt.Errorf("a part of the name has %d characters, at most 63 are allowed", len(label))
	}
	for _, r := range label {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '-':
		case 'A' <= r && r <= 'Z':
			return fmt.Errorf("write it in lower case")
		default:
			return fmt.Errorf("character %q is not allowed: use a-z, 0-9 and hyphens", r)
		}
	}
	if label[0] == '-' || label[len(label)-1] == '-' {
		return fmt.Errorf("a part of the name begins or ends with a hyphen")
	}
	return nil
}

// CheckIP reports why ip cannot be an address of a certificate.
func CheckIP(ip netip.Addr) error {
	switch {
	case !ip.IsValid():
		return fmt.Errorf("the address is empty")
	case ip.Zone() != "":
		return fmt.Errorf("%s has a zone, which means something on one host only: leave out %%%s or use another address", ip, ip.Zone())
	case ip.Is4In6():
		return fmt.Errorf("%s is an IPv4 address in IPv6 form: write %s", ip, ip.Unmap())
	case ip.IsUnspecified(), ip.IsMulticast(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%s is not the address of one host", ip)
	}
	return nil
}

// CheckSubjectText reports why text cannot be an organization or a unit of a
// subject: at most 64 characters (RFC 5280, upper bounds) of letters, digits,
// space and - . _ & ' ( ). The others have a meaning in a distinguished
// name, a glob of tls_allowed_dn_list or a quoted string.
func CheckSubjectText(text string) error {
	switch n := utf8.RuneCountInString(text); {
	case text == "":
		return fmt.Errorf("it is empty")
	case !utf8.ValidString(text):
		return fmt.Errorf("%q is not UTF-8", text)
	case n > 64:
		return fmt.Errorf("%q has %d characters, X.509 allows 64", text, n)
	case strings.TrimSpace(text) != text:
		return fmt.Errorf("%q begins or ends with a space", text)
	}
	for _, r := range text {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(" -._&'()", r) {
			return fmt.Errorf("%q: character %q is not allowed: use letters, digits, spaces and - . _ & ' ( )", text, r)
		}
	}
	return nil
}
