package facts

import (
	"net/netip"
	"path"
	"slices"
	"strings"
)

// MaxConsoles is how many consoles of one host are looked at.
const MaxConsoles = 500

// PlainConsole is the problem of a console that offers no TLS with
// certificates.
const PlainConsole = "plain"

// consoles reads the graphics of libvirt's status files: elements, each behind
// the name of its file.
func (h *Host) consoles(s string) {
	vnc := map[string]int{} // file to its console
	for _, l := range splitLines(s) {
		file, element, ok := strings.Cut(l, ".xml:<")
		if !ok {
			continue
		}
		if strings.HasPrefix(element, "graphics ") {
			delete(vnc, file)
			if xmlAttribute(element, "type") != "vnc" {
				continue
			}
			vnc[file] = len(h.Consoles)
			h.Consoles = append(h.Consoles, Console{Guest: file[strings.LastIndexByte(file, '/')+1:], Address: consoleAddress(element)})
		} else if i, ok := vnc[file]; ok {
			h.Consoles[i].Address = socketPath(element)
		}
	}
	h.Consoles = slices.DeleteFunc(h.Consoles, func(c Console) bool { return c.Address == "" })
	h.Consoles = h.Consoles[:min(len(h.Consoles), MaxConsoles)]
}

// consoleAddress is where the host itself reaches a console; empty where
// nothing listens.
func consoleAddress(graphics string) string {
	if p := socketPath(graphics); p != "" {
		return p
	}
	port := atoi(xmlAttribute(graphics, "port"), 0)
	if port <= 0 || port > 65535 {
		return ""
	}
	a, err := netip.ParseAddr(xmlAttribute(graphics, "listen"))
	switch {
	case err != nil || a.Is4() && a.IsUnspecified():
		a = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case a.IsUnspecified():
		a = netip.IPv6Loopback()
	}
	return netip.AddrPortFrom(a, uint16(port)).String()
}

func socketPath(element string) string {
	p := xmlAttribute(element, "socket")
	if !path.IsAbs(p) || path.Clean(p) != p {
		return ""
	}
	return p
}

// xmlAttribute is the value of an attribute as libvirt writes it, in single
// quotes; values with characters that XML escapes are not read.
func xmlAttribute(element, name string) string {
	_, rest, ok := strings.Cut(element, " "+name+"='")
	v, _, closed := strings.Cut(rest, "'")
	if !ok || !closed || strings.Contains(v, "&") {
		return ""
	}
	return v
}
