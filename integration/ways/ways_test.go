package ways

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
)

// TestWays is the table of docs/reach.md: each case plans, applies, and plans
// again with nothing left to do.
func TestWays(t *testing.T) {
	s := newSite(t)
	for _, w := range s.ways(t) {
		t.Run(w.name, func(t *testing.T) { s.converge(t, w) })
	}
	t.Run("nobody gets in", func(t *testing.T) { s.nobody(t) })
}

func (s *site) ways(t *testing.T) []way {
	t.Helper()
	read := func(file string) string {
		t.Helper()
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	key, known := read(s.lab.IdentityFile()), read(s.lab.KnownHosts())
	public := s.public(t, key)
	home := map[string]string{".ssh/lab": key, ".ssh/known_hosts": known}
	plain := "Host *\n  User root\n  IdentityFile ~/.ssh/lab\n"
	first, second := s.jumps[0], s.jumps[1]
	byName := func(h *lab.Host) string { return fmt.Sprintf("address = %q", h.Name) }
	aliases := "Host kvm?\n  HostName %h." + lab.Domain + "\n"
	ports := withPorts(known)

	return []way{
		{name: "the inventory says all", ssh: fmt.Sprintf("user = \"root\"\nidentity = [%q]\nknown_hosts = %q\nconfig = \"none\"", s.lab.IdentityFile(), s.lab.KnownHosts())},
		{name: "ssh_config says all", config: aliases + plain, files: home, host: byName,
			check: func(t *testing.T, c *configuration) {
				r := c.run(t, 0, "show", "--host", s.targets[0].Name)
				want := fmt.Sprintf("= [\"%s/.ssh/lab\"]  # %s/.ssh/config:5", c.home, c.home)
				if !strings.Contains(r.Stdout, want) {
					t.Errorf("%q is missing in:\n%s", want, r.Stdout)
				}
			}},
		{name: "Include and Match", config: "Include conf.d/*.conf\nHost *\n  User nobody\n", host: byName,
			files: map[string]string{".ssh/lab": key, ".ssh/known_hosts": known, ".ssh/conf.d/rack.conf": aliases + "Match host *." + lab.Domain + " originalhost kvm?\n" + plain}},
		{name: "hashed names in known_hosts", config: plain, files: map[string]string{".ssh/lab": key, ".ssh/known_hosts": s.hashed(t, known)}},
		{name: "an agent with many keys", ssh: `user = "root"`, config: "IdentitiesOnly yes\nIdentityFile ~/.ssh/lab.pub\n", env: []string{"SSH_AUTH_SOCK=" + s.agent(t, key, "", 8)},
			files: map[string]string{".ssh/lab.pub": public, ".ssh/known_hosts": known}},
		{name: "an agent of IdentityAgent", config: "IdentityAgent " + s.agent(t, key, "", 0) + "\nUser root\n", files: map[string]string{".ssh/known_hosts": known}},
		{name: "a user's certificate", config: "User root\nIdentityFile ~/.ssh/user\nCertificateFile ~/.ssh/signed\n", files: s.signed(t, known)},
		{name: "a user's certificate in the agent", ssh: `user = "root"`, env: []string{"SSH_AUTH_SOCK=" + s.agent(t, s.signed(t, "")[".ssh/user"], s.signedPair[".ssh/signed"], 0)},
			files: map[string]string{".ssh/known_hosts": known}},
		{name: "certificates of hosts", config: plain, prepare: func(t *testing.T, s *site) { s.certifyHosts(t) },
			files: map[string]string{".ssh/lab": key, ".ssh/known_hosts": "@cert-authority *." + lab.Domain + " " + read(s.userCA+".pub")}},
		{name: "HostKeyAlias", config: "Host kvm1\n  HostKeyAlias the-kvm1\nHost kvm2\n  HostKeyAlias the-kvm2\n" + plain, files: map[string]string{".ssh/lab": key, ".ssh/known_hosts": s.renamed(known)},
			host: byName},
		{name: "IPv6", config: plain, files: home, host: func(h *lab.Host) string { return fmt.Sprintf("address = %q", h.Addresses.Management6) }},
		{name: "link-local IPv6 with a zone", config: plain, files: map[string]string{".ssh/lab": key, ".ssh/known_hosts": s.linkLocalKnown(t, known)},
			host: func(h *lab.Host) string { return fmt.Sprintf("address = %q", s.linkLocal(t, h)) }},
		{name: "another port and a password", ssh: "port = 2222\nuser = \"root\"\npassword = \"env:ROOT_PASSWORD\"", env: []string{"ROOT_PASSWORD=" + s.password}, files: map[string]string{".ssh/known_hosts": ports}},
		{name: "keyboard-interactive", ssh: "port = 2223\nuser = \"root\"\npassword = \"file:" + s.passwordFile(t) + "\"", files: map[string]string{".ssh/known_hosts": ports}},
		{name: "a jump host of the inventory", ssh: fmt.Sprintf("jump = [\"root@%s\"]\nidentity = [%q]\nknown_hosts = %q", first.FQDN, s.lab.IdentityFile(), s.lab.KnownHosts())},
		{name: "two jump hosts of ssh_config", files: home, host: byName,
			config: aliases + "Host gate\n  HostName " + first.FQDN + "\nHost inner\n  HostName " + second.FQDN + "\n  ProxyJump gate\n  Port 22\nHost kvm?\n  ProxyJump inner\n" + plain},
		{name: "a password through a jump host", ssh: fmt.Sprintf("port = 2222\nuser = \"root\"\npassword = \"env:ROOT_PASSWORD\"\njump = [%q]", "root@"+second.FQDN), config: "Host " + second.FQDN + "\n  IdentityFile ~/.ssh/lab\n",
			env: []string{"ROOT_PASSWORD=" + s.password}, files: map[string]string{".ssh/lab": key, ".ssh/known_hosts": ports}},
	}
}

// nobody checks that hosts that cannot be reached are neither failed nor as
// they should be.
func (s *site) nobody(t *testing.T) {
	known := s.lab.KnownHosts()
	base := fmt.Sprintf("identity = [%q]\nknown_hosts = %q\n", s.lab.IdentityFile(), known)
	tests := []struct{ name, ssh, class string }{
		{"name", base, "dns"},
		{"jump host without a name", base + `jump = ["nowhere.invalid"]`, "dns"},
		{"closed port", base + "port = 2300", "refused"},
		{"closed port behind a jump host", base + fmt.Sprintf("port = 2300\njump = [%q]", "root@"+s.jumps[0].FQDN), "refused"},
		{"unknown key", fmt.Sprintf("identity = [%q]\nknown_hosts = %q", s.lab.IdentityFile(), os.DevNull), "host key unknown"},
		{"unknown key of a jump host", fmt.Sprintf("identity = [%q]\nknown_hosts = %q\njump = [%q]", s.lab.IdentityFile(), os.DevNull, "root@"+s.jumps[0].FQDN), "host key unknown"},
		{"another key", fmt.Sprintf("identity = [%q]\nknown_hosts = %q\n", s.userCA, known), "authentication"},
		{"password that is wrong", fmt.Sprintf("port = 2222\nknown_hosts = %q\npassword = \"env:VT_PASSPHRASE\"", s.portsFile(t)), "authentication"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := way{ssh: "user = \"root\"\nconfig = \"none\"\n" + tt.ssh}
			if tt.name == "name" {
				w.host = func(h *lab.Host) string { return fmt.Sprintf("address = %q", h.Name+".nowhere.invalid") }
			}
			c := s.newConfiguration(t, w)
			for _, args := range [][]string{{"plan", "--json"}, {"apply", "-y", "--json"}} {
				r := c.run(t, 3, args...)
				if n := strings.Count(r.Stdout, `"class": "`+tt.class+`"`); n == 0 {
					t.Errorf("virtrust %s: class %q is not told:\n%s%s", strings.Join(args, " "), tt.class, r.Stdout, r.Stderr)
				}
			}
			r := c.run(t, 3, "plan")
			if strings.Contains(r.Stdout, "Nothing to do") {
				t.Errorf("nobody was reached, and plan says:\n%s", r.Stdout)
			}
		})
	}
}

func (s *site) public(t *testing.T, private string) string {
	t.Helper()
	k, err := ssh.ParsePrivateKey([]byte(private))
	if err != nil {
		t.Fatal(err)
	}
	return string(ssh.MarshalAuthorizedKey(k.PublicKey()))
}

// agent serves an agent with a key behind some others, and gives its socket.
func (s *site) agent(t *testing.T, private, certificate string, others int) string {
	t.Helper()
	ring := agent.NewKeyring()
	for range others {
		file := filepath.Join(t.TempDir(), "k")
		keygen(t, "-q", "-t", "ed25519", "-N", "", "-f", file)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		k, err := ssh.ParseRawPrivateKey(b)
		if err == nil {
			err = ring.Add(agent.AddedKey{PrivateKey: k})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	k, err := ssh.ParseRawPrivateKey([]byte(private))
	if err != nil {
		t.Fatal(err)
	}
	added := agent.AddedKey{PrivateKey: k}
	if certificate != "" {
		pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(certificate))
		if err != nil {
			t.Fatal(err)
		}
		added.Certificate = pub.(*ssh.Certificate)
	}
	if err := ring.Add(added); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "agent") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(); _ = os.RemoveAll(dir) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(ring, c); _ = c.Close() }()
		}
	}()
	return l.Addr().String()
}

// signed is a new key of a user that an authority has signed for root.
func (s *site) signed(t *testing.T, known string) map[string]string {
	t.Helper()
	if s.signedPair == nil {
		file := filepath.Join(t.TempDir(), "user")
		keygen(t, "-q", "-t", "ed25519", "-N", "", "-f", file)
		keygen(t, "-q", "-s", s.userCA, "-I", "operator", "-n", "root", "-V", "-1h:+1d", file+".pub")
		s.signedPair = map[string]string{}
		for name, from := range map[string]string{".ssh/user": file, ".ssh/signed": file + "-cert.pub"} {
			b, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			s.signedPair[name] = string(b)
		}
	}
	out := map[string]string{".ssh/known_hosts": known}
	for k, v := range s.signedPair {
		out[k] = v
	}
	return out
}

// certifyHosts has every target present a certificate in place of its key.
func (s *site) certifyHosts(t *testing.T) {
	for _, h := range s.targets {
		file := filepath.Join(t.TempDir(), "host.pub")
		if err := os.WriteFile(file, []byte(operator.Sh(t, h, "cat /etc/ssh/ssh_host_ed25519_key.pub")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		keygen(t, "-q", "-s", s.userCA, "-I", h.Name, "-h", "-n", h.FQDN, "-V", "-1h:+1d", file)
		cert, err := os.ReadFile(strings.TrimSuffix(file, ".pub") + "-cert.pub")
		if err != nil {
			t.Fatal(err)
		}
		operator.Sh(t, h, "cat >/etc/ssh/cert.pub <<'END'\n"+string(cert)+"END\necho 'HostCertificate /etc/ssh/cert.pub' >/etc/ssh/sshd_config.d/cert.conf\n"+restart)
		t.Cleanup(func() { operator.Sh(t, h, "rm /etc/ssh/sshd_config.d/cert.conf /etc/ssh/cert.pub\n"+restart) })
	}
}

// restart has sshd read its configuration again and waits until it listens
// anew: the old socket stays for a moment.
const restart = `socket() { ss -Hltne 'sport = :22' | grep -o 'ino:[0-9]*' | sort; }
was=$(socket)
kill -HUP "$(cat /run/sshd.pid)"
n=0; until is=$(socket) && [ -n "$is" ] && [ "$is" != "$was" ]; do n=$((n+1)); [ $n -lt 600 ] || exit 1; sleep 0.1; done`

func (s *site) hashed(t *testing.T, known string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, []byte(known), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ssh-keygen", "-q", "-H", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(b), lab.Domain) {
		t.Fatalf("not hashed: %v\n%s", err, b)
	}
	return string(b)
}

// renamed has every host's keys under the name "the-HOST" only.
func (s *site) renamed(known string) string {
	var out strings.Builder
	for l := range strings.Lines(known) {
		names, rest, _ := strings.Cut(l, " ")
		for _, h := range s.targets {
			if strings.HasPrefix(names, h.Name+",") || strings.Contains(names, h.FQDN) {
				fmt.Fprintf(&out, "the-%s %s", h.Name, rest)
			}
		}
	}
	return out.String()
}

// linkLocal is a host's link-local address, with the zone that it has here.
func (s *site) linkLocal(t *testing.T, h *lab.Host) string {
	t.Helper()
	addr := operator.Sh(t, h, "ip -6 -o addr show dev mgmt0 scope link | sed 's,.*inet6 \\([^/]*\\)/.*,\\1,'")
	if !strings.HasPrefix(addr, "fe80::") {
		t.Fatalf("%s has the link-local address %q", h.Name, addr)
	}
	return addr + "%" + string(lab.Management)
}

func (s *site) linkLocalKnown(t *testing.T, known string) string {
	t.Helper()
	var out strings.Builder
	for l := range strings.Lines(known) {
		names, rest, _ := strings.Cut(l, " ")
		for _, h := range s.targets {
			if strings.Contains(names, h.FQDN) {
				fmt.Fprintf(&out, "%s %s", s.linkLocal(t, h), rest)
			}
		}
	}
	return out.String()
}

// withPorts adds the names of the ports beside 22.
func withPorts(known string) string {
	out := known
	for l := range strings.Lines(known) {
		names, rest, _ := strings.Cut(l, " ")
		for n := range strings.SplitSeq(names, ",") {
			out += fmt.Sprintf("[%s]:2222 %s[%s]:2223 %s", n, rest, n, rest)
		}
	}
	return out
}

func (s *site) portsFile(t *testing.T) string {
	t.Helper()
	known, err := os.ReadFile(s.lab.KnownHosts())
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err == nil {
		err = os.WriteFile(file, []byte(withPorts(string(known))), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func (s *site) passwordFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(s.password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
