package lab

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSudoLogin(t *testing.T) {
	l, _ := start(t, HostSpec{Login: LoginSudo}, HostSpec{Login: LoginSudo, Cheap: true})
	for _, address := range []string{"kvm1.example.test:22", "kvm2.example.test:22"} {
		c, err := login(t, l, LoginSudo.User(), address)
		if err != nil {
			t.Fatal(err)
		}
		if got := output(t, c, "id -un; sudo -n id -un"); got != "deploy\nroot" {
			t.Errorf("%s: %q", address, got)
		}
		if _, err := login(t, l, "root", address); err == nil {
			t.Errorf("%s: root may log in", address)
		}
	}
}

// Every firewall lets in SSH and ICMP, all but off keep out libvirt's TLS port,
// and all do so again after a reboot.
func TestFirewalls(t *testing.T) {
	var specs []HostSpec
	for _, f := range Firewalls {
		specs = append(specs, HostSpec{Firewall: f})
	}
	l, hosts := start(t, specs...)
	ctx := t.Context()
	const owners = `for u in firewalld ufw nftables netfilter-persistent; do if systemctl -q is-active $u; then echo $u; fi; done`
	units := map[Firewall]string{FirewallFirewalld: "firewalld", FirewallUFW: "ufw", FirewallNftables: "nftables", FirewallIptables: "netfilter-persistent"}
	for _, h := range hosts {
		for _, step := range []string{"first boot", "second boot"} {
			if got := must(t)(h.Script(ctx, owners)); got != units[h.Firewall] {
				t.Errorf("%s, %s: active are %q", h.Firewall, step, got)
			}
			if f, err := h.FailedUnits(ctx); err != nil || len(f) > 0 {
				t.Errorf("%s, %s: failed units %q, %v", h.Firewall, step, f, err)
			}
			must(t)(h.Script(ctx, "systemd-run -q --unit=port busybox nc -ll -p 16514 -e echo open"))
			if _, err := login(t, l, "root", h.FQDN+":22"); err != nil {
				t.Errorf("%s, %s: ssh: %v", h.Firewall, step, err)
			}
			for _, address := range []string{h.Addresses.Management4.String(), h.Addresses.Migration6.String()} {
				open := false
				for range 20 {
					short, cancel := context.WithTimeout(ctx, 700*time.Millisecond)
					c, err := l.Dial(short, "tcp", net.JoinHostPort(address, "16514"))
					cancel()
					if open = err == nil; open {
						c.Close()
					}
					if open || h.Firewall != FirewallOff {
						break
					}
					time.Sleep(50 * time.Millisecond)
				}
				if open != (h.Firewall == FirewallOff) {
					t.Errorf("%s, %s: port 16514 of %s open: %v", h.Firewall, step, address, open)
				}
			}
			if step == "first boot" {
				if err := h.Reboot(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func TestSuites(t *testing.T) {
	var specs []HostSpec
	for _, s := range Suites {
		specs = append(specs, HostSpec{Suite: s})
	}
	_, hosts := start(t, specs...)
	for _, h := range hosts {
		got := must(t)(h.Script(t.Context(), `. /etc/os-release; echo $VERSION_CODENAME
virsh -c qemu:///system version --daemon | sed -n '/^Using library\|^Running/p'; ssh -V 2>&1`))
		t.Logf("%s: %s", h.Name, got)
		if !strings.HasPrefix(got, h.Suite) || !strings.Contains(got, "Running against daemon") {
			t.Errorf("%s: %s", h.Suite, got)
		}
	}
}

func TestManyCheapHosts(t *testing.T) {
	began := time.Now()
	l, hosts := start(t, slices.Repeat([]HostSpec{{Cheap: true}}, 50)...)
	t.Logf("50 cheap hosts in %s", time.Since(began))
	last := hosts[len(hosts)-1]
	if got := last.Addresses.Management6.String(); got != "fd00:77::60" {
		t.Errorf("the last host has %s", got)
	}
	c, err := login(t, l, "root", last.FQDN+":22")
	if err != nil {
		t.Fatal(err)
	}
	if got := output(t, c, "hostname; cat /proc/1/comm"); got != "kvm50\nsh" {
		t.Errorf("%q", got)
	}
	if err := last.Reboot(t.Context()); err != nil {
		t.Error(err)
	}
}
