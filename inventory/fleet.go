package inventory

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/virtrust/virtrust/internal/conffile"
)

// Fleet is everything the user wrote, resolved: no references, no
// expressions, no defaults left to fill in. It holds no secret.
type Fleet struct {
	// Dir is the absolute directory of the configuration.
	Dir string `json:"dir"`
	// Digest identifies the configuration: sha256 over the files, the
	// files they read, and the values of variables, in a fixed order.
	Digest string `json:"digest"`
	// Hosts in the order of the configuration; instances of one for_each
	// block in the order of their keys.
	Hosts       []Host      `json:"hosts"`
	Clusters    []Cluster   `json:"clusters"`
	Networks    []Network   `json:"networks"`
	Authorities []Authority `json:"authorities"`
	// Removed are hosts that have left.
	Removed []Removed `json:"removed,omitempty"`
	// RelyingParties are outside the fleet and verify its certificates.
	RelyingParties []RelyingParty `json:"relying_parties,omitempty"`
	// LedgerPath is the absolute path of the ledger's database.
	LedgerPath string `json:"ledger_path"`
}

// Range is where a value was written: a file relative to the
// configuration's directory and a line counted from 1. Values that come
// from a shipped template carry a file named "template:NAME", values that
// nobody wrote the file "default" and line 0.
type Range struct {
	File string `json:"file"`
	Line int    `json:"line"`
}

// String renders the range as file:line, or as the file alone where there is
// no line.
func (r Range) String() string {
	if r.Line == 0 {
		return r.File
	}
	return fmt.Sprintf("%s:%d", r.File, r.Line)
}

// Migration is a cluster's or host's stance on encrypted live migration.
type Migration string

// The stances, from language.md "Effective values".
const (
	MigrationOff       Migration = "off"
	MigrationAvailable Migration = "available"
	MigrationRequired  Migration = "required"
)

// Host is one machine with its effective policy.
type Host struct {
	Name    string            `json:"name"`    // unique in the fleet, [a-z0-9-]
	Address string            `json:"address"` // what SSH dials: a name or an IP
	Cluster string            `json:"cluster"` // "" when the host is in none
	Labels  map[string]string `json:"labels,omitempty"`
	Nics    []Nic             `json:"nics,omitempty"`
	Names   []string          `json:"names,omitempty"` // further names of the host's certificates
	SSH     SSH               `json:"ssh"`
	// HostKeys pins the host's SSH keys as SHA256:… fingerprints; empty
	// means known_hosts decides.
	HostKeys  []string  `json:"host_keys,omitempty"`
	Away      *Away     `json:"away,omitempty"`
	Managed   bool      `json:"managed"` // false: read and reported, never changed
	Migration Migration `json:"migration"`
	Policy    Policy    `json:"policy"`
	Source    Range     `json:"source"`
	// Origins says where each effective value outside the policy was
	// written ("address", "ssh.user", "nic.management.fqdn").
	Origins map[string]Range `json:"-"`
}

// Away takes a host out of every condition until a date.
type Away struct {
	Until  time.Time `json:"until"` // the end of that day, UTC
	Reason string    `json:"reason"`
}

// Nic is a host's presence on one network.
type Nic struct {
	Network   string       `json:"network"`
	FQDN      string       `json:"fqdn,omitempty"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Source    Range        `json:"source"`
}

// SSH is how a host is reached, after fleet, cluster and host are merged.
type SSH struct {
	User string `json:"user"` // default root
	// Password says where the password of the login comes from: prompt, env:NAME
	// or file:PATH; "" where keys are enough.
	Password string `json:"password,omitempty"`
	Become   string `json:"become"` // none | sudo
	// BecomePassword says where sudo's password comes from, likewise; "" where
	// sudo asks for none.
	BecomePassword string   `json:"become_password,omitempty"`
	KnownHosts     string   `json:"known_hosts,omitempty"`
	Port           int      `json:"port"` // default 22
	Identity       []string `json:"identity,omitempty"`
	// Jump are the hosts to go through, the first one to dial first:
	// "[USER@]HOST[:PORT]", where HOST may be the name of a host of the fleet.
	// Empty means none if Set holds "jump".
	Jump []string `json:"jump,omitempty"`
	// Config is the ssh_config file that decides what is not set here: a path,
	// "none", or "" for those that ssh reads.
	Config string `json:"config,omitempty"`
	// Set names the attributes that were written; ~/.ssh/config may decide the
	// others.
	Set []string `json:"set,omitempty"`
}

// Cluster groups hosts that migrate guests to each other.
type Cluster struct {
	Name      string    `json:"name"`
	Policy    string    `json:"policy"`
	Migration Migration `json:"migration"`
	Rollout   Rollout   `json:"rollout"`
	Source    Range     `json:"source"`
}

// Network is a set of address ranges with a role.
type Network struct {
	Name     string         `json:"name"`
	CIDRs    []netip.Prefix `json:"cidrs"`
	Discover bool           `json:"discover"`
	Source   Range          `json:"source"`
}

// Authority is a declared certification authority.
type Authority struct {
	Name string `json:"name"`
	// Of is the name under which it is declared, where each cluster has its own
	// (per = "cluster"), and Cluster whose it is; empty otherwise. Name is then
	// OF-CLUSTER.
	Of           string `json:"of,omitempty"`
	Cluster      string `json:"cluster,omitempty"`
	Kind         string `json:"kind"` // local, exec, offline, step or vault
	Organization string `json:"organization"`
	// PassphraseFrom is a reference (prompt, env:NAME, file:PATH,
	// command:…), never a passphrase.
	PassphraseFrom string        `json:"passphrase_from,omitempty"`
	KeyAlgorithm   string        `json:"key_algorithm"` // ecdsa-p256
	Lifetime       time.Duration `json:"lifetime"`      // of a CA certificate, nanoseconds
	// Directory holds the public authority files, absolute:
	// <config>/authorities/NAME.
	Directory string `json:"directory"`
	// KeyDirectory holds gN.key.age, absolute; default Directory.
	KeyDirectory string `json:"key_directory"`
	// Of one kind each, nil for the others.
	Exec    *ExecAuthority    `json:"exec,omitempty"`
	Offline *OfflineAuthority `json:"offline,omitempty"`
	Step    *StepAuthority    `json:"step,omitempty"`
	Vault   *VaultAuthority   `json:"vault,omitempty"`
	Source  Range             `json:"source"`
}

// RelyingParty is a person or program outside the fleet that verifies our
// certificates. virtrust cannot look at it, so somebody has to vouch for it
// before an authority changes its generation.
type RelyingParty struct {
	Name        string   `json:"name"`
	Authorities []string `json:"authorities"`
	Note        string   `json:"note,omitempty"`
	Source      Range    `json:"source"`
}

// Policy is what must be true of a host, all defaults filled in.
type Policy struct {
	Name         string        `json:"name"`
	Template     string        `json:"template,omitempty"`
	Certificates []Certificate `json:"certificates,omitempty"`
	Trusts       []TrustFile   `json:"trusts,omitempty"`
	Stores       []TrustStore  `json:"stores,omitempty"`
	Settings     []Settings    `json:"settings,omitempty"`
	Listeners    []Listener    `json:"listeners,omitempty"`
	// VNC is set where the VNC consoles of guests are encrypted.
	VNC      *VNC      `json:"vnc,omitempty"`
	Firewall *Firewall `json:"firewall,omitempty"`
	Rollout  Rollout   `json:"rollout"`
	Source   Range     `json:"source"`
	// Origins says for each effective value ("certificate.libvirt-server.lifetime")
	// where it was written; show prints it.
	Origins map[string]Range `json:"-"`
}

// Certificate is one identity of a host.
type Certificate struct {
	Name      string   `json:"name"`
	Authority string   `json:"authority"`         // name of an Authority of the fleet
	Foreign   bool     `json:"foreign,omitempty"` // that authority is external
	Usages    []string `json:"usages"`            // server, client
	// Networks whose names and addresses it carries; empty means every
	// nic of the host and its address.
	Networks     []string      `json:"networks,omitempty"`
	Scope        string        `json:"scope"` // host | nic
	Lifetime     time.Duration `json:"lifetime"`
	RenewBefore  time.Duration `json:"renew_before"`
	KeyUsage     string        `json:"key_usage"`     // compatible | strict
	KeyAlgorithm string        `json:"key_algorithm"` // ecdsa-p256 | rsa-3072 | rsa-2048
	Install      Install       `json:"install"`
	// Names and addresses this certificate must carry on this host,
	// computed from the inventory: sorted, no duplicates.
	DNSNames []string     `json:"dns_names"`
	IPs      []netip.Addr `json:"ips,omitempty"`
	// NeededFor is ForMigration or ForVNC on a certificate that only hosts
	// have who need it; empty on one that every host has.
	NeededFor string `json:"needed_for,omitempty"`
	// OnReplace says what becomes of the certificate that another one followed:
	// keep, it ends by itself, or revoke.
	OnReplace string `json:"on_replace"`
	Source    Range  `json:"source"`
}

// What a block of a policy may be needed for: hosts that do without leave it
// out.
const (
	ForMigration = "migration" // hosts whose migration is not off
	ForVNC       = "vnc"       // policies with listener "vnc"
)

// QEMUAccount as the owner of an identity stands for the account that QEMU
// runs as on that host. No account can have that name. The group and the mode
// of the key then follow from the host.
const QEMUAccount = "@qemu"

// Install says where an identity lives on a host.
type Install struct {
	Directory string `json:"directory"` // /etc/pki/libvirt
	Cert      string `json:"cert"`      // relative to Directory
	Key       string `json:"key"`       // relative to Directory
	Owner     string `json:"owner"`     // an account, or QEMUAccount
	Group     string `json:"group"`     // empty with QEMUAccount
	KeyMode   uint32 `json:"key_mode"`  // permission bits, 0600; 0 with QEMUAccount
	// Aliases are further names of the same pair, sorted by Cert.
	Aliases []Alias `json:"aliases,omitempty"`
}

// Alias is one more name of an identity's certificate and of its key.
type Alias struct {
	Cert string `json:"cert"` // relative to the directory
	Key  string `json:"key"`  // relative to the directory
}

// TrustFile is a bundle of authorities at one path.
type TrustFile struct {
	Path        string   `json:"path"`
	Authorities []string `json:"authorities"`
	// Others are what other clusters have in the place of one of Authorities:
	// their CAs do not belong into this file.
	Others    []string `json:"others,omitempty"`
	CRL       string   `json:"crl,omitempty"`
	Foreign   string   `json:"foreign"`              // keep | remove
	NeededFor string   `json:"needed_for,omitempty"` // as Certificate.NeededFor
	Source    Range    `json:"source"`
}

// TrustStore is a bundle of authorities in a form that libvirt and QEMU do not
// read: for a program of Java or its like.
type TrustStore struct {
	Path        string   `json:"path"`
	Format      string   `json:"format"` // pkcs12 | jks
	Authorities []string `json:"authorities"`
	Others      []string `json:"others,omitempty"`     // as TrustFile.Others
	Foreign     string   `json:"foreign"`              // keep | remove
	NeededFor   string   `json:"needed_for,omitempty"` // as Certificate.NeededFor
	Source      Range    `json:"source"`
}

// Settings are managed keys of one configuration file of a daemon.
type Settings struct {
	Path   string    `json:"path"`
	Values []Setting `json:"values"` // sorted by key; null keys are left out
	Source Range     `json:"source"`
}

// Setting is one managed key.
type Setting struct {
	Key   string         `json:"key"`
	Value conffile.Value `json:"-"`
	// Text is Value in libvirt's syntax.
	Text      string `json:"value"`
	NeededFor string `json:"needed_for,omitempty"` // as Certificate.NeededFor
	Source    Range  `json:"source"`
}

// Listener is a daemon's TLS port.
type Listener struct {
	Name   string `json:"name"`
	Port   int    `json:"port"`
	Mode   string `json:"mode"` // auto
	Source Range  `json:"source"`
}

// VNC is what a policy wants of the VNC consoles of guests.
type VNC struct {
	// Verify says whether clients have to show a certificate; nil leaves the
	// host's setting alone.
	Verify *bool `json:"verify,omitempty"`
	Source Range `json:"source"`
}

// Firewall is the set of ports a policy opens.
type Firewall struct {
	Backend string  `json:"backend"` // auto | firewalld | ufw | nftables | iptables | none
	Allows  []Allow `json:"allows,omitempty"`
	Source  Range   `json:"source"`
}

// Allow is one opening. From holds network names, CIDRs or "peers".
type Allow struct {
	Name  string   `json:"name"`
	Port  int      `json:"port,omitempty"`
	Ports string   `json:"ports,omitempty"`
	From  []string `json:"from,omitempty"`
	// Sources are the ranges of addresses that From stands for on this host:
	// sorted, no duplicates, shared between hosts.
	Sources []netip.Prefix `json:"-"`
	Source  Range          `json:"source"`
}

// Rollout bounds how a cluster is changed.
type Rollout struct {
	Canary         int    `json:"canary"`
	Batch          string `json:"batch"` // "25%" or a count
	Restarts       int    `json:"restarts"`
	MaxFailures    int    `json:"max_failures"`
	MaxUnreachable string `json:"max_unreachable"` // "10%" or a count
	// Windows are when renew may change hosts; empty means always.
	Windows []Window `json:"windows,omitempty"`
}

// Host finds a host by name.
func (f *Fleet) Host(name string) (*Host, bool) {
	for i := range f.Hosts {
		if f.Hosts[i].Name == name {
			return &f.Hosts[i], true
		}
	}
	return nil, false
}

// Authority finds a declared authority by name.
func (f *Fleet) Authority(name string) (*Authority, bool) {
	for i := range f.Authorities {
		if f.Authorities[i].Name == name {
			return &f.Authorities[i], true
		}
	}
	return nil, false
}

// AuthoritiesOf lists the names of the authorities that one block declares: its
// own, or those of the clusters; none where there is no such block, or no cluster
// with a host that uses it.
func (f *Fleet) AuthoritiesOf(name string) []string {
	var out []string
	for i := range f.Authorities {
		if a := &f.Authorities[i]; a.Name == name || a.Of == name {
			out = append(out, a.Name)
		}
	}
	return out
}
