package tasks

import (
	"crypto"
	"crypto/x509"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/conffile"
	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/inventory"
)

// Where libvirt looks for the identity of a migration when qemu.conf names no
// directory: the first if it exists (libvirt, virQEMUDriverConfigSetDefaults).
const (
	qemuConf           = "/etc/libvirt/qemu.conf"
	migrationOnlyDir   = "/etc/pki/libvirt-migrate"
	migrationSharedDir = "/etc/pki/qemu"
)

// libvirt's default range of ports for migrations (qemu.conf).
const (
	migrationPortMin = 49152
	migrationPortMax = 49215
)

// PeerQueries are the questions whose answers Between needs of a host. Dirs
// are further directories in which QEMU's identity may lie; see IdentityDir.
func PeerQueries(dirs ...string) []facts.Query {
	qs := []facts.Query{
		facts.Content(qemuConf), facts.Stat(migrationOnlyDir), facts.Content(libvirtTrust),
		facts.Content(libvirtDir + "/clientcert.pem"), facts.Key(libvirtDir + "/private/clientkey.pem"),
	}
	dirs = append([]string{migrationOnlyDir, migrationSharedDir}, dirs...)
	slices.Sort(dirs)
	for _, d := range slices.Compact(dirs) {
		qs = append(qs, facts.Content(d+"/ca-cert.pem"), facts.Content(d+"/server-cert.pem"), facts.Content(d+"/client-cert.pem"),
			facts.Key(d+"/server-key.pem"), facts.Key(d+"/client-key.pem"))
	}
	return facts.Merge(qs)
}

// IdentityDir is the directory from which libvirt has QEMU take its identity
// for migrations, by the host's qemu.conf. Ask again with PeerQueries(dir)
// when it is none of the usual ones; ok is false then. A value that is no
// clean path below /etc is not followed and counts as usual.
func IdentityDir(h *facts.Host) (dir string, usual bool) {
	dir = readMigrationConf(h).dir
	return dir, dir == migrationOnlyDir || dir == migrationSharedDir || !strings.HasPrefix(dir, "/etc/") || path.Clean(dir) != dir
}

// migrationConf is what qemu.conf says of migrations.
type migrationConf struct {
	dir     string
	verify  bool // the destination demands the source's certificate
	force   bool // libvirt refuses a migration without TLS
	secret  bool // the key is encrypted, with a secret of libvirt
	host    string
	address string
	min     int
	max     int
	problem string
}

func readMigrationConf(h *facts.Host) migrationConf {
	c := migrationConf{dir: migrationSharedDir, verify: true, min: migrationPortMin, max: migrationPortMax}
	content, ok := h.Content(qemuConf)
	if !ok {
		c.problem = qemuConf + " could not be read"
		return c
	}
	f, err := conffile.Parse(content)
	if err != nil {
		c.problem = qemuConf + ": " + err.Error()
		return c
	}
	str := func(key string) (string, bool) {
		v, ok := f.Get(key)
		if !ok {
			return "", false
		}
		return v.Str()
	}
	num := func(key string, otherwise int) int {
		if v, ok := f.Get(key); ok {
			if n, ok := v.Int(); ok {
				return int(n)
			}
		}
		return otherwise
	}
	if d, ok := str("default_tls_x509_cert_dir"); ok {
		c.dir = d
	}
	if h.Path(migrationOnlyDir).Type == facts.Directory {
		c.dir = migrationOnlyDir
	}
	if d, ok := str("migrate_tls_x509_cert_dir"); ok {
		c.dir = d
	}
	c.verify = num("migrate_tls_x509_verify", num("default_tls_x509_verify", 1)) != 0
	c.force = num("migrate_tls_force", 0) != 0
	_, c.secret = str("migrate_tls_x509_secret_uuid")
	c.host, _ = str("migration_host")
	c.address, _ = str("migration_address")
	c.min, c.max = num("migration_port_min", c.min), num("migration_port_max", c.max)
	return c
}

func (c migrationConf) ports() string { return strconv.Itoa(c.min) + "-" + strconv.Itoa(c.max) }

// An End is one host of a migration: what the configuration says of it, and
// what a look with PeerQueries saw.
type End struct {
	Host *inventory.Host
	Seen *facts.Host
}

func (e End) port() int { return build{host: e.Host}.port() }

// served is the chain that the libvirt listener shows.
func (e End) served() ([][]byte, string) {
	if len(e.Host.Policy.Listeners) == 0 {
		return nil, "its policy has no listener"
	}
	s := e.Seen.Served[servedAt(e.port())]
	switch {
	case len(s.Chain) > 0:
		return s.Chain, ""
	case s.Problem != "":
		return nil, s.Problem
	}
	return nil, "not looked at"
}

// libvirtVersion and qemuVersion are the versions as the packages have them,
// "" where no package was found.
func (e End) libvirtVersion() string {
	return firstPackage(e.Seen, "libvirt-daemon", "libvirt-daemon-driver-qemu")
}

func (e End) qemuVersion() string {
	return firstPackage(e.Seen, "qemu-system-x86", "qemu-kvm-core", "qemu-system-x86-core", "qemu-x86")
}

func firstPackage(h *facts.Host, names ...string) string {
	for _, n := range names {
		if v := h.Packages[n]; v != "" {
			return v
		}
	}
	return ""
}

// identity is QEMU's side of a host in one role, and why QEMU there could not
// start with it.
func (e End) identity(role pki.Usage) (chain [][]byte, problems []string) {
	c := readMigrationConf(e.Seen)
	if c.problem != "" {
		return nil, []string{c.problem}
	}
	cert, _ := e.Seen.Content(c.dir + "/" + string(role) + "-cert.pem")
	ca, haveCA := e.Seen.Content(c.dir + "/ca-cert.pem")
	switch {
	case !haveCA:
		return nil, []string{"there is no " + c.dir + "/ca-cert.pem"}
	case len(cert) == 0:
		return nil, []string{"there is no " + c.dir + "/" + string(role) + "-cert.pem"}
	}
	keyFile := c.dir + "/" + string(role) + "-key.pem"
	var key crypto.PublicKey
	if der, ok := e.Seen.PublicKey(keyFile); ok {
		key, _ = x509.ParsePKIXPublicKey(der)
	}
	if key == nil && !c.secret {
		problems = append(problems, keyFile+" is missing or cannot be read")
	}
	v := pki.Judge(pki.Question{Rules: pki.QEMURules(e.qemuVersion()), Role: role, Now: e.now(), Cert: cert, CA: ca, Key: key})
	for _, p := range v.Problems {
		problems = append(problems, p.Text)
	}
	for _, x := range pki.ParseBundle(cert).Certs {
		chain = append(chain, x.Raw)
	}
	return chain, problems
}

func (e End) now() time.Time { return e.Seen.Clock }

// qemuTrust is the CA file of QEMU's identity.
func (e End) qemuTrust() []byte {
	ca, _ := e.Seen.Content(readMigrationConf(e.Seen).dir + "/ca-cert.pem")
	return ca
}
