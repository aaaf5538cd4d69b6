package lab

import (
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"path"
	"slices"
)

// Firewall is what owns the packet filter of a host. All but FirewallOff let in
// SSH, ICMP and answers, and nothing else.
type Firewall string

// The firewalls that a host can start with.
const (
	FirewallOff       Firewall = "off"       // firewalld and ufw installed and disabled
	FirewallFirewalld Firewall = "firewalld" // the daemon's own defaults: zone public
	FirewallUFW       Firewall = "ufw"
	FirewallNftables  Firewall = "nftables" // /etc/nftables.conf, nftables.service
	FirewallIptables  Firewall = "iptables" // /etc/iptables/rules.v4 and v6, netfilter-persistent.service; ufw removed
)

// Firewalls are all values of Firewall.
var Firewalls = []Firewall{FirewallOff, FirewallFirewalld, FirewallUFW, FirewallNftables, FirewallIptables}

// Login is the account that the lab's key opens on a host.
type Login string

// The accounts that a host can be reached with.
const (
	LoginRoot Login = "root"
	LoginSudo Login = "sudo" // user deploy, who may run everything through sudo; root may not log in
)

// User is the name to log in with.
func (l Login) User() string {
	if l == LoginSudo {
		return "deploy"
	}
	return "root"
}

// A File is put on a host before its first boot, owned by root.
type File struct {
	Mode    fs.FileMode // permission bits; 0 is 0644
	Content []byte
}

// A HostSpec says how one host starts. Its zero value is a Debian 13 host
// without a firewall, reached as root.
type HostSpec struct {
	Suite    string          // one of Suites; "" is trixie
	Firewall Firewall        // "" is off
	Login    Login           // "" is root
	Cheap    bool            // sshd only, without systemd: no units, no libvirtd, no firewall, no reboot
	Files    map[string]File // by absolute path; needed folders are made with 0755
}

func (s *HostSpec) complete() error {
	if s.Suite == "" {
		s.Suite = "trixie"
	}
	if s.Firewall == "" {
		s.Firewall = FirewallOff
	}
	if s.Login == "" {
		s.Login = LoginRoot
	}
	if !slices.Contains(Firewalls, s.Firewall) {
		return fmt.Errorf("lab: unknown firewall %q", s.Firewall)
	}
	if s.Login != LoginRoot && s.Login != LoginSudo {
		return fmt.Errorf("lab: unknown login %q: choose root or sudo", s.Login)
	}
	if s.Cheap && s.Firewall != FirewallOff {
		return fmt.Errorf("lab: a cheap host has no firewall: leave %s out", s.Firewall)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Files)) {
		if !path.IsAbs(name) || path.Clean(name) != name {
			return fmt.Errorf("lab: file %q: give a clean absolute path", name)
		}
	}
	return nil
}

// Domain is the domain of all names in a lab.
const Domain = "example.test"

// A Network is one of the two networks of a lab.
type Network string

// The networks, named as their bridges in the controller namespace are.
const (
	Management Network = "mgmt" // 10.77.0.0/24, fd00:77::/64, mgmt0 on hosts
	Migration  Network = "mig"  // 10.78.0.0/24, fd00:78::/64, mig0 on hosts
)

var networks = []struct {
	name   Network
	v4, v6 netip.Addr // the networks' base addresses
}{
	{Management, netip.MustParseAddr("10.77.0.0"), netip.MustParseAddr("fd00:77::")},
	{Migration, netip.MustParseAddr("10.78.0.0"), netip.MustParseAddr("fd00:78::")},
}

// maxHosts is how many hosts a lab's networks have room for.
const maxHosts = 240

// Addresses are the addresses of a host, or of the controller, on both networks.
// The last part reads the same in IPv4 and IPv6: 10.77.0.11 and fd00:77::11.
type Addresses struct {
	Management4, Management6 netip.Addr
	Migration4, Migration6   netip.Addr
}

func addressesOf(last int) Addresses {
	at := func(i int) (netip.Addr, netip.Addr) {
		v4 := networks[i].v4.As4()
		v4[3] = byte(last)
		v6 := networks[i].v6.As16()
		// Decimal digits, written as hexadecimal ones.
		v6[14], v6[15] = byte(last/100), byte(last/10%10<<4|last%10)
		return netip.AddrFrom4(v4), netip.AddrFrom16(v6)
	}
	var a Addresses
	a.Management4, a.Management6 = at(0)
	a.Migration4, a.Migration6 = at(1)
	return a
}

// ControllerAddresses are the lab's own addresses, the same in every lab.
var ControllerAddresses = addressesOf(1)

// ControllerName is the name of the lab's own addresses on the management network.
const ControllerName = "controller." + Domain

func (a Addresses) list() []string {
	return []string{a.Management4.String(), a.Management6.String(), a.Migration4.String(), a.Migration6.String()}
}
