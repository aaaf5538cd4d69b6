package faults

// A scenario is a change that is disturbed.
type scenario struct {
	name    string
	fresh   bool // there is nothing before; a revert leads back to nothing
	restart bool // the daemon is restarted
	prepare func(s *site)
}

var (
	onboarding = scenario{name: "onboarding", fresh: true, restart: true, prepare: func(s *site) {
		s.must(freshScript)
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
	adoption = scenario{name: "adoption", prepare: func(s *site) {
		s.onboarded()
		s.must(adoptScript)
	}}
)

var scenarios = []scenario{onboarding, renewal, settings, adoption}

// freshScript takes a host back to what it was before virtrust.
const freshScript = `
systemctl stop libvirtd-tls.socket libvirtd.service >/dev/null 2>&1 || :
systemctl disable libvirtd-tls.socket >/dev/null 2>&1
rm -rf /etc/pki/libvirt /etc/pki/CA /var/lib/virtrust/* /run/virtrust/* # they may be mount points
rmdir /var/lib/virtrust /run/virtrust 2>/dev/null || :
rm -f /etc/systemd/system/virtrust-revert.service /etc/systemd/system/sysinit.target.wants/virtrust-revert.service
rm -f /etc/libvirt/*.conf; cp -a /var/tmp/pristine/*.conf /etc/libvirt/
systemctl daemon-reload
systemctl reset-failed >/dev/null 2>&1 || :
systemctl start libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service
`

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
