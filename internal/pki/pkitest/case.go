package pkitest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

// A Target is a version of a consumer. Those marked Tried were asked on a real
// host; the verdicts of the others follow from their source.
type Target struct {
	Name    string
	Version string // as a host tells it
	Rules   pki.Rules
	Tried   bool
}

// Targets lists the versions that cases have verdicts for.
func Targets() []Target {
	libvirt := func(name, version string, tried bool) Target {
		return Target{name, version, pki.LibvirtRules(version), tried}
	}
	qemu := func(name, version string, tried bool) Target {
		return Target{name, version, pki.QEMURules(version), tried}
	}
	return []Target{
		libvirt("libvirt-9.0", "9.0.0-4+deb12u2", true),
		libvirt("libvirt-11.3", "11.3.0-3+deb13u3", true),
		libvirt("libvirt-12.8", "12.8.0-1", true),
		qemu("qemu-6.2", "6.2.0", false),
		qemu("qemu-7.2", "7.2.22", true),
		qemu("qemu-10.0", "10.0.13", true),
		qemu("qemu-11.1", "11.1.2", true),
	}
}

// Groups of targets that a case's Refused may name.
var groups = map[string][]string{
	"all":         {"libvirt-9.0", "libvirt-11.3", "libvirt-12.8", "qemu-6.2", "qemu-7.2", "qemu-10.0", "qemu-11.1"},
	"libvirt":     {"libvirt-9.0", "libvirt-11.3", "libvirt-12.8"},
	"qemu":        {"qemu-6.2", "qemu-7.2", "qemu-10.0", "qemu-11.1"},
	"whole-file":  {"libvirt-9.0", "libvirt-11.3", "libvirt-12.8", "qemu-6.2", "qemu-7.2", "qemu-10.0"},
	"self-signed": {"qemu-11.1"},
	"old":         {"libvirt-9.0", "qemu-6.2"},
}

// A Case is one identity as files, and who refuses to start with it.
type Case struct {
	Name    string
	Suite   string // where the case comes from
	Role    pki.Usage
	CA      []byte // CA file; empty means there is none
	Cert    []byte // certificate file; empty means there is none
	Key     []byte // key file, PKCS#8
	Refused string // words: groups or names of targets; empty means all accept
	Code    string // a code that the problems of a refusal have; empty means any
}

// Accepts reports whether a target starts with the case's identity.
func (c Case) Accepts(target string) bool {
	for w := range strings.FieldsSeq(c.Refused) {
		names, ok := groups[w]
		if !ok {
			names = []string{w}
		}
		if slices.Contains(names, target) {
			return false
		}
	}
	return true
}

// Write writes the case's files into dir under the given paths for the CA,
// the certificate and the key, making folders as needed. What the case lacks
// is not written.
func (c Case) Write(dir, ca, cert, key string) error {
	for name, data := range map[string][]byte{ca: c.CA, cert: c.Cert, key: c.Key} {
		if len(data) == 0 || name == key && len(c.Cert) == 0 {
			continue
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("case %s: %w", c.Name, err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return fmt.Errorf("case %s: %w", c.Name, err)
		}
	}
	return nil
}

// WriteQEMU writes the files under the names of a tls-creds-x509 directory.
func (c Case) WriteQEMU(dir string) error {
	return c.Write(dir, "ca-cert.pem", string(c.Role)+"-cert.pem", string(c.Role)+"-key.pem")
}

// Cases builds every case around now: libvirt's and QEMU's own unit tests made
// again from their rules, and what was tried on real hosts.
func Cases(now time.Time) []Case {
	b := NewBuilder(now)
	return slices.Concat(libvirtCases(b), qemuCases(b), leafCases(b), bundleCases(b))
}

func perfectCA(cn string) Spec {
	return Spec{Country: "UK", CommonName: cn, Basic: "c ca", Usage: "c CS"}
}
