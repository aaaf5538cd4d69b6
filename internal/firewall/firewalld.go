package firewall

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/virtrust/virtrust/internal/facts"
)

// bus is one answer of busctl --json=short: the values that a method gave.
type bus struct {
	Data []json.RawMessage `json:"data"`
}

func readBus(s string, into any) bool {
	var b bus
	return json.Unmarshal([]byte(s), &b) == nil && len(b.Data) > 0 && json.Unmarshal(b.Data[0], into) == nil
}

type zone struct {
	Interfaces []string `json:"interfaces"`
	Sources    []string `json:"sources"`
}

// variant is a value of getZoneSettings2.
type variant struct {
	Data json.RawMessage `json:"data"`
}

// services are the ones of firewalld that libvirt's ports have names in.
var services = map[string][2]uint16{"libvirt-tls": {16514, 16514}, "libvirt": {16509, 16509}, "vnc-server": {5900, 5903}, "ssh": {22, 22}}

func (v *View) firewalld(h *facts.Host) {
	var def string
	var active map[string]zone
	if !readBus(h.Firewall["default"], &def) || !readBus(h.Firewall["active"], &active) {
		v.Problem = "firewalld runs and does not answer on D-Bus"
		return
	}
	zones := []string{def}
	for z := range active {
		if z != def {
			zones = append(zones, z)
		}
	}
	slices.Sort(zones[1:])
	for _, z := range zones {
		var set map[string]variant
		if !readBus(h.Firewall["zone:"+z], &set) {
			v.Problem = fmt.Sprintf("firewalld tells nothing about its zone %q", z)
			return
		}
		v.Runtime = append(v.Runtime, zoneOpenings(z, set)...)
		content, _ := h.Content(firewalldDir + z + ".xml")
		v.Kept = append(v.Kept, keptRich(z, content)...)
	}
	v.places = func(s netip.Prefix) []string { return zonesOf(h, s, def, active) }
}

// zonesOf are the zones that see a source: those bound to it, then those of
// the interfaces that are on its network, else those of all interfaces. An
// interface that nobody bound is in the default zone.
func zonesOf(h *facts.Host, s netip.Prefix, def string, active map[string]zone) []string {
	var out []string
	add := func(z string) {
		if !slices.Contains(out, z) {
			out = append(out, z)
		}
	}
	zoneOf := func(nic string) string {
		for name, z := range active {
			if slices.Contains(z.Interfaces, nic) {
				return name
			}
		}
		return def
	}
	whole := false
	for name, z := range active {
		for _, b := range z.Sources {
			if p, ok := readSource(b); ok && p.Overlaps(s) {
				add(name)
				whole = whole || contains(p, s)
			}
		}
	}
	if !whole {
		n := len(out)
		for nic, addresses := range h.Interfaces {
			for _, a := range addresses {
				if a.Masked().Overlaps(s) {
					add(zoneOf(nic))
				}
			}
		}
		if len(out) == n {
			add(def)
			for name, z := range active {
				// Bridges of guests are not where other hosts come from.
				if len(z.Interfaces) > 0 && name != "libvirt" && name != "libvirt-routed" && name != "docker" {
					add(name)
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

func zoneOpenings(name string, set map[string]variant) []Opening {
	var out []Opening
	text := func(key string, into any) { _ = json.Unmarshal(set[key].Data, into) }
	add := func(from, to uint16, source netip.Prefix, ours bool, text string) {
		out = append(out, Opening{From: from, To: to, Source: source, Ours: ours, Place: name, Text: text})
	}
	both := func(from, to uint16, what string) {
		for _, v4 := range []bool{true, false} {
			add(from, to, everyone(v4), false, "zone "+name+": "+what)
		}
	}
	var target string
	if text("target", &target); target == "ACCEPT" {
		both(0, 65535, "target ACCEPT")
	}
	var list []string
	text("services", &list)
	for _, s := range list {
		if p, ok := services[s]; ok {
			both(p[0], p[1], "service "+s)
		}
	}
	var pairs [][]string
	text("ports", &pairs)
	for _, p := range pairs {
		if len(p) == 2 && p[1] == "tcp" {
			if from, to, ok := readPorts(p[0], "-"); ok {
				both(from, to, "port "+p[0]+"/tcp")
			}
		}
	}
	var rich []string
	text("rules_str", &rich)
	for _, r := range rich {
		o, ok := readRich(r)
		switch {
		case !ok:
		case o.Source.IsValid():
			add(o.From, o.To, o.Source, o.Ours, r)
		default:
			both(o.From, o.To, r)
		}
	}
	return out
}

// readRich reads a rich rule that accepts TCP ports or a known service, from a
// source or from everyone. Any other is not an opening that can be told.
func readRich(s string) (Opening, bool) {
	o := Opening{}
	w := words(s)
	if len(w) < 2 || w[0] != "rule" || w[len(w)-1] != "accept" {
		return o, false
	}
	opens := false
	element := ""
	for _, x := range w[1 : len(w)-1] {
		k, val, attr := strings.Cut(x, "=")
		if !attr {
			if element = x; element != "source" && element != "port" && element != "service" {
				return o, false
			}
			continue
		}
		ok := true
		switch element + " " + k {
		case " family":
		case " priority":
			o.Ours = val == strconv.Itoa(Priority)
		case "source address":
			o.Source, ok = readSource(val)
		case "port port":
			o.From, o.To, ok = readPorts(val, "-")
			opens = true
		case "port protocol":
			ok = val == "tcp"
		case "service name":
			p, known := services[val]
			o.From, o.To, opens, ok = p[0], p[1], true, known
		default:
			ok = false
		}
		if !ok {
			return o, false
		}
	}
	o.Ours = o.Ours && o.Source.IsValid()
	return o, opens
}

// keptRich reads our rules in a zone's file.
func keptRich(name string, content []byte) []Opening {
	var z struct {
		Rules []struct {
			Priority string `xml:"priority,attr"`
			Source   *struct {
				Address string `xml:"address,attr"`
			} `xml:"source"`
			Port *struct {
				Port     string `xml:"port,attr"`
				Protocol string `xml:"protocol,attr"`
			} `xml:"port"`
			Accept *struct{} `xml:"accept"`
		} `xml:"rule"`
	}
	if xml.Unmarshal(content, &z) != nil {
		return nil
	}
	var out []Opening
	for _, r := range z.Rules {
		if r.Priority != strconv.Itoa(Priority) || r.Source == nil || r.Port == nil || r.Port.Protocol != "tcp" || r.Accept == nil {
			continue
		}
		source, ok := readSource(r.Source.Address)
		from, to, ok2 := readPorts(r.Port.Port, "-")
		if ok && ok2 {
			out = append(out, Opening{Ours: true, From: from, To: to, Source: source, Place: name})
		}
	}
	return out
}
