package firewall

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/virtrust/virtrust/internal/facts"
)

// host builds what a look brings back: answers, and files by path.
func host(answers, files map[string]string) *facts.Host {
	h := &facts.Host{Firewall: answers, Paths: map[string]facts.Path{}}
	for p, c := range files {
		h.Paths[p] = facts.Path{Type: facts.Regular, Mode: 0o644, Owner: "root", Content: []byte(c), HasData: true, Size: int64(len(c))}
	}
	return h
}

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, x := range s {
		out = append(out, netip.MustParsePrefix(x))
	}
	return out
}

var want = Rule{Name: "libvirt-tls", From: 16514, To: 16514, Sources: prefixes("10.77.0.0/24", "fd00:77::/64")}

const savedPlain = `*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [2:153]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
`

const savedOurs = `*filter
:INPUT DROP [0:0]
-A INPUT -s 10.77.0.0/24 -p tcp -m tcp --dport 16514 -m comment --comment "virtrust:libvirt-tls" -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
`

const saved6Ours = `*filter
:INPUT DROP [0:0]
-A INPUT -s fd00:77::/64 -p tcp -m tcp --dport 16514 -m comment --comment "virtrust:libvirt-tls" -j ACCEPT
COMMIT
`

const ufwChains = `*filter
:INPUT DROP [0:0]
:ufw-user-input - [0:0]
-A INPUT -j ufw-before-input
-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT
-A ufw-user-input -s 10.77.0.0/24 -p tcp -m tcp --dport 16514 -j ACCEPT
COMMIT
`

const ufwTuples = `### RULES ###

### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in
-A ufw-user-input -p tcp --dport 22 -j ACCEPT

### tuple ### allow tcp 16514 0.0.0.0/0 any 10.77.0.0/24 in comment=76697274727573743a6c6962766972742d746c73
-A ufw-user-input -p tcp --dport 16514 -s 10.77.0.0/24 -j ACCEPT
`

const nftFile = `#!/usr/sbin/nft -f
flush ruleset

table inet filter {
	set trusted { type ipv4_addr; elements = { 10.0.0.1 } }
	chain input {
		type filter hook input priority filter; policy drop;
		# a brace in a comment: {
		ct state established,related accept
		meta l4proto { icmp, ipv6-icmp } accept
		tcp dport 22 accept comment "ssh # not a comment {"
	}
	chain output {
		type filter hook output priority filter; policy accept;
	}
}
`

const nftPlace = "inet filter input"

func nftJSON(rules string) string {
	return fmt.Sprintf(`{"nftables": [{"metainfo": {"version": "1.1.3"}}, {"chain": {"family": "inet", "table": "filter", "name": "input", "handle": 1, "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}}, {"chain": {"family": "inet", "table": "filter", "name": "output", "type": "filter", "hook": "output", "policy": "accept"}}, {"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": [{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}, {"accept": null}]}}%s]}`, rules)
}

const (
	nftOurs  = `, {"rule": {"family": "inet", "table": "filter", "chain": "input", "comment": "virtrust:libvirt-tls", "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": {"prefix": {"addr": "10.77.0.0", "len": 24}}}}, {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 16514}}, {"accept": null}]}}`
	nftOurs6 = `, {"rule": {"family": "inet", "table": "filter", "chain": "input", "comment": "virtrust:libvirt-tls", "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip6", "field": "saddr"}}, "right": {"prefix": {"addr": "fd00:77::", "len": 64}}}}, {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 16514}}, {"accept": null}]}}`
	nftWide  = `, {"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": {"set": [22, {"range": [16000, 17000]}]}}}, {"counter": {"packets": 0}}, {"accept": null}]}}`
)

func zoneJSON(extra string) string {
	return `{"type":"a{sv}","data":[{"short":{"type":"s","data":"Public"},"target":{"type":"s","data":"default"},"services":{"type":"as","data":["ssh","dhcpv6-client"]}` + extra + `}]}`
}

const (
	zoneOurs = `,"rules_str":{"type":"as","data":["rule priority=\"16514\" family=\"ipv4\" source address=\"10.77.0.0/24\" port port=\"16514\" protocol=\"tcp\" accept","rule priority=\"16514\" family=\"ipv6\" source address=\"fd00:77::/64\" port port=\"16514\" protocol=\"tcp\" accept"]}`
	zoneXML  = `<?xml version="1.0" encoding="utf-8"?>
<zone>
  <service name="ssh"/>
  <rule family="ipv4" priority="16514"><source address="10.77.0.0/24"/><port port="16514" protocol="tcp"/><accept/></rule>
  <rule family="ipv6" priority="16514"><source address="fd00:77::/64"/><port port="16514" protocol="tcp"/><accept/></rule>
  <rule family="ipv4"><source address="10.0.0.1"/><port port="16514" protocol="tcp"/><accept/></rule>
</zone>`
)

func fwd(active, zone string, files map[string]string) *facts.Host {
	return host(map[string]string{
		"managers": "firewalld", "default": `{"type":"s","data":["public"]}`,
		"active": `{"type":"a{sa{sas}}","data":[{` + active + `}]}`, "zone:public": zone, "zone:internal": zoneJSON(""),
	}, files)
}

func sources(list []Opening) string {
	s := ""
	for _, o := range list {
		s += o.Place + " " + o.Source.String() + ";"
	}
	return s
}

func check(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}
