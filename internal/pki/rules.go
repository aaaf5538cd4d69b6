package pki

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Consumer is a program that accepts or refuses certificates.
type Consumer string

// The consumers whose rules are known.
const (
	ConsumerLibvirt Consumer = "libvirt"
	ConsumerQEMU    Consumer = "qemu"
)

// Rules are the points in which versions of libvirt and QEMU differ when they
// accept a certificate. LibvirtRules and QEMURules choose them from the
// versions found on a host.
type Rules struct {
	Consumer Consumer `json:"consumer"`
	// RequireKeyEncipherment refuses a critical key usage without
	// keyEncipherment (libvirt before 11.6, QEMU before 10.2, no backport).
	RequireKeyEncipherment bool `json:"require_key_encipherment"`
	// InvertedAnyPurpose is libvirt's inverted comparison: an unknown extended
	// key usage allows both roles and anyExtendedKeyUsage allows neither.
	InvertedAnyPurpose bool `json:"inverted_any_purpose"`
	// CheckAllCAs refuses the whole CA file for one bad CA among those read;
	// without it only the CAs in the leaf's chain are looked at.
	CheckAllCAs bool `json:"check_all_cas"`
	// ChainToSelfSigned demands that the chain ends in a self-signed CA of the
	// CA file; without it any CA of the file is an anchor.
	ChainToSelfSigned bool `json:"chain_to_self_signed"`
	// ReadCertChain reads all certificates of the certificate file in the
	// start-up check; without it the first alone.
	ReadCertChain bool `json:"read_cert_chain"`
	// MaxCAs is how many certificates of the CA file the start-up check reads;
	// later ones are ignored in silence. 0 means all.
	MaxCAs int `json:"max_cas"`
	// MaxBytes is the size above which a certificate or CA file is refused.
	// 0 means no limit.
	MaxBytes int `json:"max_bytes"`
	// PeerExtensions applies basic constraints, key usage and extended key
	// usage to a peer's leaf in a session, too (libvirt does, QEMU does not).
	PeerExtensions bool `json:"peer_extensions"`
}

// LibvirtRules chooses the rules of libvirt from a version as a host tells it:
// "11.3.0" or, better, the package's version such as "11.3.0-3+deb13u3", which
// shows a backport. For a version that cannot be read the oldest rules hold.
func LibvirtRules(version string) Rules {
	v := parseVersion(version)
	return Rules{
		Consumer: ConsumerLibvirt,
		// NEWS of 11.6.0; Debian 13 has it in 11.3.0-3+deb13u3.
		RequireKeyEncipherment: !v.atLeast(11, 6) && !(v.is(11, 3) && v.debian(13) >= 3),
		InvertedAnyPurpose:     true,
		CheckAllCAs:            true,
		MaxCAs:                 MaxBundleCAs,
		MaxBytes:               MaxBundleBytes,
		PeerExtensions:         true,
	}
}

// QEMURules chooses the rules of QEMU from a version as a host tells it:
// "7.2.22", a package's version such as "1:7.2+dfsg-7+deb12u18", or the line
// that qemu-system-x86_64 --version prints. For a version that cannot be read
// the oldest rules hold.
func QEMURules(version string) Rules {
	v := parseVersion(version)
	chain := v.atLeast(10, 2)
	r := Rules{
		Consumer: ConsumerQEMU,
		// Tried: 7.2.22 and 10.0.13 have the fix of 10.2 from their stable series.
		RequireKeyEncipherment: !chain && !(v.is(7, 2) && (v.patch() >= 22 || v.debian(12) >= 18)) && !(v.is(10, 0) && v.patch() >= 13),
		CheckAllCAs:            !chain,
		ChainToSelfSigned:      chain,
		ReadCertChain:          chain,
	}
	if !chain {
		r.MaxCAs = MaxBundleCAs
	}
	return r
}

// PortableRules are the hardest rules of both consumers in all versions: what
// passes them is accepted everywhere. Use them where nothing was found yet.
func PortableRules() []Rules {
	return []Rules{LibvirtRules(""), LibvirtRules("12.8.0"), QEMURules(""), QEMURules("11.1.2")}
}

type version struct {
	numbers  []int
	revision string
}

var (
	versionNumber = regexp.MustCompile(`(?:^|[^0-9.])(?:[0-9]+:)?([0-9]+(?:\.[0-9]+){1,3})`)
	debianUpdate  = regexp.MustCompile(`\+deb([0-9]+)u([0-9]+)`)
)

func parseVersion(s string) version {
	if len(s) > 256 {
		s = s[:256]
	}
	v := version{revision: s}
	m := versionNumber.FindStringSubmatch(s)
	if m == nil {
		return v
	}
	for part := range strings.SplitSeq(m[1], ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return version{revision: s}
		}
		v.numbers = append(v.numbers, n)
	}
	return v
}

func (v version) atLeast(want ...int) bool {
	return len(v.numbers) > 0 && slices.Compare(v.numbers, want) >= 0
}

func (v version) is(major, minor int) bool {
	return len(v.numbers) >= 2 && v.numbers[0] == major && v.numbers[1] == minor
}

func (v version) patch() int {
	if len(v.numbers) < 3 {
		return 0
	}
	return v.numbers[2]
}

// debian is the update number of a package of that Debian release, else 0.
func (v version) debian(release int) int {
	m := debianUpdate.FindStringSubmatch(v.revision)
	if m == nil || m[1] != strconv.Itoa(release) {
		return 0
	}
	n, _ := strconv.Atoi(m[2])
	return n
}
