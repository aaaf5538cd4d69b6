package facts

import (
	"net/netip"
	"strconv"
	"strings"
)

// listeners reads what ss prints of listening sockets: state, two queues,
// and the local address, which may have a zone, and is * for all of both
// families.
func (h *Host) listeners(s string) {
	for _, l := range splitLines(s) {
		f := strings.Fields(l)
		if len(f) < 4 || f[0] != "LISTEN" {
			continue
		}
		i := strings.LastIndexByte(f[3], ':')
		port, err := strconv.ParseUint(f[3][i+1:], 10, 16)
		if i < 0 || err != nil {
			continue
		}
		host, _, _ := strings.Cut(f[3][:i], "%")
		addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if host == "*" {
			addr, err = netip.IPv6Unspecified(), nil
		}
		if err == nil {
			h.Listening = append(h.Listening, netip.AddrPortFrom(addr.Unmap(), uint16(port)))
		}
	}
}

func (h *Host) sockets(s string) {
	for _, l := range splitLines(s) {
		f := strings.Fields(l)
		if len(f) < 4 || f[3] != "0A" {
			continue
		}
		if ap, ok := procAddr(f[1]); ok {
			h.Listening = append(h.Listening, ap)
		}
	}
}

// procAddr decodes /proc/net/tcp's address: 32-bit words in the host's byte
// order, which is little-endian on every architecture libvirt's KVM hosts
// commonly use, then the port.
func procAddr(s string) (netip.AddrPort, bool) {
	hexAddr, hexPort, ok := strings.Cut(s, ":")
	if !ok || len(hexAddr) != 8 && len(hexAddr) != 32 {
		return netip.AddrPort{}, false
	}
	port, err := strconv.ParseUint(hexPort, 16, 16)
	if err != nil {
		return netip.AddrPort{}, false
	}
	raw := make([]byte, len(hexAddr)/2)
	for i := range raw {
		v, err := strconv.ParseUint(hexAddr[2*i:2*i+2], 16, 8)
		if err != nil {
			return netip.AddrPort{}, false
		}
		raw[i/4*4+3-i%4] = byte(v)
	}
	addr, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), ok
}

func (h *Host) addresses(s string) {
	for _, l := range splitLines(s) {
		f := strings.Fields(l)
		if len(f) >= 4 && (f[2] == "inet" || f[2] == "inet6") {
			if p, err := netip.ParsePrefix(f[3]); err == nil {
				h.Addresses = append(h.Addresses, p)
				if h.Interfaces == nil {
					h.Interfaces = map[string][]netip.Prefix{}
				}
				h.Interfaces[f[1]] = append(h.Interfaces[f[1]], p)
			}
		}
	}
}
