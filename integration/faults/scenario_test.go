package faults

import "github.com/virtrust/virtrust/integration/lab"

// A scenario is a change that is disturbed.
type scenario struct {
	name    string
	fresh   bool // there is nothing before; a revert leads back to nothing
	restart bool // the daemon is restarted
	prepare func(s *site)
}

var (
	onboarding = scenario{name: "onboarding", fresh: true, restart: true, prepare: func(s *site) {
		s.must(freshScript + freshWall[s.host.Firewall])
	}}
	renewal = scenario{name: "renewal", prepare: func(s *site) {
		s.onboarded()
		s.names++
		s.write()
	}}
	settings = scenario{name: "settings", restart: true, prepare: func(s *site) {
		s.onboarded()
		s.settings++
		s.write()
	}}
	firewall = scenario{name: "firewall", prepare: func(s *site) {
		s.onboarded()
		s.doors++
		s.write()
	}}
	adoption = scenario{name: "adoption", prepare: func(s *site) {
		s.onboarded()
		s.must(adoptScript)
	}}
)

var scenarios = []scenario{onboarding, renewal, settings, firewall, adoption}

// freshScript takes a host back to what it was before virtrust.
const freshScript = `
systemctl stop libvirtd-tls.socket libvirtd.service >/dev/null 2>&1 || :
systemctl disable libvirtd-tls.socket >/dev/null 2>&1
rm -rf /etc/pki/libvirt /etc/pki/CA /etc/pki/qemu /var/lib/virtrust/* /run/virtrust/* # they may be mount points
rmdir /var/lib/virtrust /run/virtrust 2>/dev/null || :
rm -f /etc/systemd/system/virtrust-revert.service /etc/systemd/system/sysinit.target.wants/virtrust-revert.service
rm -f /etc/libvirt/*.conf; cp -a /var/tmp/pristine/*.conf /etc/libvirt/
systemctl daemon-reload
systemctl reset-failed >/dev/null 2>&1 || :
systemctl start libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service
`

// pristineScript keeps what freshScript and freshWall put back.
const pristineScript = `
mkdir -p /var/tmp/pristine; cp -a /etc/libvirt/*.conf /var/tmp/pristine/
for d in /etc/nftables.conf /etc/iptables /etc/ufw /etc/firewalld; do [ ! -e $d ] || cp -a $d /var/tmp/pristine/; done
`

// freshWall takes each firewall back to what it was before virtrust, live and
// for the next boot.
var freshWall = map[lab.Firewall]string{
	lab.FirewallNftables:  "cp -a /var/tmp/pristine/nftables.conf /etc/; nft -f /etc/nftables.conf\n",
	lab.FirewallIptables:  "cp -a /var/tmp/pristine/iptables/. /etc/iptables/; iptables-restore </etc/iptables/rules.v4; ip6tables-restore </etc/iptables/rules.v6\n",
	lab.FirewallUFW:       "cp -a /var/tmp/pristine/ufw/. /etc/ufw/; ufw reload >/dev/null\n",
	lab.FirewallFirewalld: "rm -rf /etc/firewalld/zones; cp -a /var/tmp/pristine/firewalld/. /etc/firewalld/; firewall-cmd -q --reload\n",
}

// adoptScript turns the managed names into the plain files that another tool
// would have left, with the same content.
const adoptScript = `
cd /etc/pki/libvirt
for f in servercert.pem private/serverkey.pem clientcert.pem private/clientkey.pem; do
	[ -L $f ] || continue
	umask 077; cat $f >$f.plain; case $f in *cert.pem) chmod 0644 $f.plain ;; esac
	mv $f.plain $f
done
rm -rf .virtrust
`

// onboarded makes sure that a host is under virtrust's care.
func (s *site) onboarded() {
	s.t.Helper()
	if s.round > 0 {
		return
	}
	if r := s.apply(); r.code != 0 {
		s.t.Errorf("%s: first apply: %s\n%s", s.host.Name, r, r.stderr)
	}
	s.round++
}
