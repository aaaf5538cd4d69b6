package firewall

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/internal/facts"
)

func TestDetect(t *testing.T) {
	enabled := map[string]string{ufwConf: "# x\nENABLED=yes\n"}
	for _, c := range []struct {
		name   string
		h      *facts.Host
		owner  Owner
		beside string
	}{
		{"nothing asked", &facts.Host{}, None, ""},
		{"nothing active", host(map[string]string{"managers": ""}, nil), None, ""},
		{"ufw enabled", host(map[string]string{"managers": "ufw"}, enabled), UFW, ""},
		{"ufw's unit, disabled in its file", host(map[string]string{"managers": "ufw"}, map[string]string{ufwConf: "ENABLED=no\n"}), None, ""},
		{"firewalld and ufw", host(map[string]string{"managers": "firewalld ufw"}, enabled), Firewalld, "ufw"},
		{"nftables", host(map[string]string{"managers": "nftables", "nft": nftJSON("")}, nil), Nftables, ""},
		{"nftables without a filter", host(map[string]string{"managers": "nftables", "nft": `{"nftables": []}`}, nil), None, ""},
		{"nftables, unreadable", host(map[string]string{"managers": "nftables", "nft": `{"nfta`}, nil), Nftables, ""},
		{"iptables", host(map[string]string{"managers": "netfilter-persistent", "iptables": savedPlain}, nil), Iptables, ""},
		{"iptables that lets all in", host(map[string]string{"managers": "iptables", "iptables": "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n"}, nil), None, ""},
		{"ufw, and nftables.service with iptables' own tables", host(map[string]string{"managers": "ufw nftables",
			"nft": strings.NewReplacer(`"inet"`, `"ip"`, `"input", "handle"`, `"INPUT", "handle"`).Replace(nftJSON(""))}, enabled), UFW, ""},
		{"ufw and nftables", host(map[string]string{"managers": "ufw nftables", "nft": nftJSON("")}, enabled), UFW, "nftables"},
	} {
		owner, beside := Detect(c.h)
		b := ""
		for _, o := range beside {
			b += string(o)
		}
		if owner != c.owner || b != c.beside {
			t.Errorf("%s: %s beside %q, want %s beside %q", c.name, owner, b, c.owner, c.beside)
		}
	}
}

func TestAllowed(t *testing.T) {
	ipt := func(v4, v6, file4, file6 string) *facts.Host {
		return host(map[string]string{"managers": "netfilter-persistent", "iptables": v4, "ip6tables": v6},
			map[string]string{iptablesFiles[0]: file4, ip6tablesFiles[0]: file6})
	}
	nft := func(rules, file string) *facts.Host {
		return host(map[string]string{"managers": "nftables", "nft": nftJSON(rules)}, map[string]string{nftablesFiles[0]: file})
	}
	kept := strings.Replace(nftFile, "policy drop;\n", "policy drop;\n\t\tip saddr 10.77.0.0/24 tcp dport 16514 accept comment \"virtrust:libvirt-tls\"\n\t\tip6 saddr fd00:77::/64 tcp dport 16514 accept comment \"virtrust:libvirt-tls\"\n", 1)
	both := " 10.77.0.0/24; fd00:77::/64;"
	for _, c := range []struct {
		name    string
		h       *facts.Host
		missing string
		wider   int
		problem bool
	}{
		{"iptables: closed", ipt(savedPlain, savedPlain, savedPlain, savedPlain), both, 0, false},
		{"iptables: live and kept", ipt(savedOurs, saved6Ours, savedOurs, saved6Ours), "", 0, false},
		{"iptables: live only", ipt(savedOurs, saved6Ours, savedPlain, saved6Ours), " 10.77.0.0/24;", 0, false},
		{"iptables: kept only", ipt(savedPlain, saved6Ours, savedOurs, saved6Ours), " 10.77.0.0/24;", 0, false},
		{"iptables: IPv6 is not filtered", ipt(savedOurs, "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n", savedOurs, ""), "", 0, false},
		{"iptables: everyone, by another's rule", ipt(strings.Replace(savedPlain, "--dport 22", "--dport 16514", 1), savedPlain, savedPlain, savedPlain), " fd00:77::/64;", 1, false},
		{"iptables: a narrower rule of another's", ipt(strings.Replace(savedPlain, "-p tcp -m tcp --dport 22", "-s 10.77.0.5/32 -p tcp -m tcp --dport 16514", 1), savedPlain, savedPlain, savedPlain), both, 0, false},
		{"nftables: closed", nft("", nftFile), nftPlace + both[:14] + nftPlace + " fd00:77::/64;", 0, false},
		{"nftables: live and kept", nft(nftOurs+nftOurs6, kept), "", 0, false},
		{"nftables: live only", nft(nftOurs+nftOurs6, nftFile), nftPlace + both[:14] + nftPlace + " fd00:77::/64;", 0, false},
		{"nftables: wider", nft(nftWide, nftFile), "", 2, false},
		{"nftables: file in another form", nft("", "include \"/etc/x.nft\"\n"), nftPlace + both[:14] + nftPlace + " fd00:77::/64;", 0, true},
		{"firewalld: closed", fwd("", zoneJSON(""), nil), "public 10.77.0.0/24;public fd00:77::/64;", 0, false},
		{"firewalld: live and kept", fwd("", zoneJSON(zoneOurs), map[string]string{firewalldDir + "public.xml": zoneXML}), "", 0, false},
		{"firewalld: live only", fwd("", zoneJSON(zoneOurs), nil), "public 10.77.0.0/24;public fd00:77::/64;", 0, false},
		{"firewalld: service for everyone", fwd("", zoneJSON(`,"ports":{"type":"a(ss)","data":[["16514","tcp"]]}`), nil), "", 2, false},
		{"firewalld: a zone of that source", fwd(`"internal":{"interfaces":[],"sources":["10.77.0.0/16"]}`, zoneJSON(""), nil), "internal 10.77.0.0/24;public fd00:77::/64;", 0, false},
		{"firewalld: no answer", host(map[string]string{"managers": "firewalld"}, nil), " 10.77.0.0/24; fd00:77::/64;", 0, true},
		{"ufw: IPv6 missing", host(map[string]string{"managers": "ufw", "iptables": ufwChains}, map[string]string{ufwConf: "ENABLED=yes\n", ufwRules: ufwTuples}), " fd00:77::/64;", 0, false},
		{"ufw: the rule was deleted from ufw's files", host(map[string]string{"managers": "ufw", "iptables": strings.Replace(ufwChains, "--dport 16514 -j", `--dport 16514 -m comment --comment "virtrust:libvirt-tls" -j`, 1)}, map[string]string{ufwConf: "ENABLED=yes\n"}), both, 0, false},
	} {
		v := Look(c.h)
		a := v.Allowed(want)
		check(t, c.name, sources(a.Missing), c.missing)
		if len(a.Wider) != c.wider || (v.Problem != "") != c.problem {
			t.Errorf("%s: wider %v, problem %q", c.name, a.Wider, v.Problem)
		}
	}
}

func TestStale(t *testing.T) {
	v := Look(host(map[string]string{"managers": "netfilter-persistent", "iptables": savedOurs}, map[string]string{iptablesFiles[0]: savedPlain}))
	if got := v.Stale([]Rule{want}); len(got) != 0 {
		t.Errorf("wanted, and stale: %v", got)
	}
	narrower := want
	narrower.Sources = prefixes("10.77.0.7/32")
	check(t, "other sources", sources(v.Stale([]Rule{narrower})), " 10.77.0.0/24;")
	check(t, "another name", sources(v.Stale([]Rule{{Name: "x", From: 16514, To: 16514, Sources: want.Sources}})), " 10.77.0.0/24;")
	if got := Look(host(map[string]string{"managers": "netfilter-persistent", "iptables": savedPlain}, nil)).Stale(nil); len(got) != 0 {
		t.Errorf("others' rules are stale: %v", got)
	}
}

func TestTidy(t *testing.T) {
	got := Tidy(prefixes("10.0.0.5/32", "fd00::/64", "10.0.0.0/24", "10.0.0.0/24", "10.0.1.1/24", "fd00::1/128"))
	if s := sources([]Opening{{Source: got[0]}, {Source: got[1]}}); len(got) != 3 || s != " 10.0.0.0/24; 10.0.1.0/24;" || got[2] != netip.MustParsePrefix("fd00::/64") {
		t.Errorf("%v", got)
	}
}
