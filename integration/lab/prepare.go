package lab

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const nftablesRules = `#!/usr/sbin/nft -f
flush ruleset

table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		iif "lo" accept
		meta l4proto { icmp, ipv6-icmp } accept
		tcp dport 22 accept
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
	}
	chain output {
		type filter hook output priority filter; policy accept;
	}
}
`

// iptablesRules takes the name of the family's ICMP protocol.
const iptablesRules = `*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -p %s -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
`

var firewallScripts = map[Firewall]string{
	FirewallOff:       "",
	FirewallFirewalld: "systemctl enable firewalld.service\n",
	FirewallUFW: `ufw allow 22/tcp
sed -i 's/^ENABLED=.*/ENABLED=yes/' /etc/ufw/ufw.conf
systemctl enable ufw.service
`,
	FirewallNftables: "systemctl enable nftables.service\n",
	FirewallIptables: `export DEBIAN_FRONTEND=noninteractive
printf 'iptables-persistent iptables-persistent/autosave_%s boolean false\n' v4 v6 | debconf-set-selections
dpkg --purge ufw
dpkg -i --force-confold /usr/share/lab/*.deb
systemctl enable netfilter-persistent.service
`,
}

// libvirtScript sets what libvirt needs in a container. Two containers on one
// machine share its DMI UUID, and libvirt refuses to migrate a guest between
// hosts of the same UUID. QEMU can have neither device cgroups nor a /dev of its own.
const libvirtScript = `for f in libvirtd virtqemud virtproxyd; do
	[ ! -e /etc/libvirt/$f.conf ] || cat >>/etc/libvirt/$f.conf <<'END'

# The host is a container.
host_uuid_source = "machine-id"
END
done
cat >>/etc/libvirt/qemu.conf <<'END'

# The host is a container.
cgroup_controllers = []
namespaces = []
END
`

// An AppArmor profile would have to be loaded from inside the container.
const noSecurityDriver = `echo 'security_driver = "none"' >>/etc/libvirt/qemu.conf
`

// prepare writes what supervise.sh puts on a host before its first boot.
func (h *Host) prepare(spec HostSpec) error {
	id := make([]byte, 16)
	rand.Read(id)
	ed25519, err := newEd25519Key("root@" + h.Name)
	if err != nil {
		return err
	}
	ecdsa, err := newECDSAKey("root@" + h.Name)
	if err != nil {
		return err
	}
	authorized, err := os.ReadFile(filepath.Join(h.lab.dir, "identity.pub"))
	if err != nil {
		return fmt.Errorf("lab: read the client key: %w", err)
	}
	files := map[string]File{
		"/etc/hostname":                     {Content: []byte(h.Name + "\n")},
		"/etc/machine-id":                   {Mode: 0o444, Content: []byte(hex.EncodeToString(id) + "\n")},
		"/etc/ssh/ssh_host_ed25519_key":     {Mode: 0o600, Content: ed25519.private},
		"/etc/ssh/ssh_host_ed25519_key.pub": {Content: ed25519.public},
		"/etc/ssh/ssh_host_ecdsa_key":       {Mode: 0o600, Content: ecdsa.private},
		"/etc/ssh/ssh_host_ecdsa_key.pub":   {Content: ecdsa.public},
	}
	var script strings.Builder
	switch spec.Login {
	case LoginRoot:
		files["/root/.ssh/authorized_keys"] = File{Mode: 0o600, Content: authorized}
		script.WriteString("chmod 700 /root/.ssh\n")
	case LoginSudo:
		files["/etc/ssh/sshd_config.d/login.conf"] = File{Content: []byte("PermitRootLogin no\n")}
		files["/etc/sudoers.d/deploy"] = File{Mode: 0o440, Content: []byte("deploy ALL=(ALL:ALL) NOPASSWD: ALL\n")}
		fmt.Fprintf(&script, `useradd --create-home --shell /bin/bash deploy
install -d -o deploy -g deploy -m 700 /home/deploy/.ssh
cat >/home/deploy/.ssh/authorized_keys <<'END'
%sEND
chown deploy:deploy /home/deploy/.ssh/authorized_keys
chmod 600 /home/deploy/.ssh/authorized_keys
`, authorized)
	}
	switch spec.Firewall {
	case FirewallNftables:
		files["/etc/nftables.conf"] = File{Mode: 0o755, Content: []byte(nftablesRules)}
	case FirewallIptables:
		files["/etc/iptables/rules.v4"] = File{Content: fmt.Appendf(nil, iptablesRules, "icmp")}
		files["/etc/iptables/rules.v6"] = File{Content: fmt.Appendf(nil, iptablesRules, "ipv6-icmp")}
	}
	if !spec.Cheap {
		script.WriteString(firewallScripts[spec.Firewall])
		script.WriteString(libvirtScript)
		if enabled, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled"); bytes.HasPrefix(enabled, []byte("Y")) {
			script.WriteString(noSecurityDriver)
		}
	}
	maps.Copy(files, spec.Files)
	archive, err := tarball(files)
	if err != nil {
		return fmt.Errorf("lab: %s: pack the host's files: %w", h.Name, err)
	}
	for _, dir := range []string{"upper", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(h.dir, dir), 0o755); err != nil {
			return fmt.Errorf("lab: %s: make its directories: %w", h.Name, err)
		}
	}
	for name, content := range map[string][]byte{
		"files.tar": archive, "prepare.sh": []byte(script.String()), "supervise.sh": []byte(superviseScript),
	} {
		if err := os.WriteFile(filepath.Join(h.dir, name), content, 0o600); err != nil {
			return fmt.Errorf("lab: %s: write %s: %w", h.Name, name, err)
		}
	}
	return addKnownHost(h.lab.KnownHosts(), h, ed25519, ecdsa)
}

// tarball packs files owned by root. tar makes missing folders itself and
// leaves the mode and owner of those that exist.
func tarball(files map[string]File) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f := files[name]
		if f.Mode == 0 {
			f.Mode = 0o644
		}
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "/"),
			Mode: int64(f.Mode & fs.ModePerm), Size: int64(len(f.Content)),
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
