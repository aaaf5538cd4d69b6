package facts

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// ErrTorn means that a file changed while the script read it. Look again.
var ErrTorn = errors.New("facts: a file changed while it was read")

// ErrNoScript means that the output does not hold the script's answer: the
// login shell is not a shell, or the output was cut.
var ErrNoScript = errors.New("facts: the script's answer did not arrive whole")

type frame struct {
	kind, arg string
	data      []byte
}

// Frame is one framed answer of a script that uses the same framing.
type Frame struct {
	Kind, Arg string
	Data      []byte
}

// Frames gives the frames that arrived whole, whatever came after them. It is
// for scripts that may end early.
func Frames(nonce string, out []byte) []Frame {
	head := []byte(nonce + " ")
	var frames []Frame
	for {
		start := bytes.Index(out, head)
		if start < 0 {
			return frames
		}
		out = out[start:]
		nl := bytes.IndexByte(out, '\n')
		if nl < 0 {
			return frames
		}
		kind, rest, _ := strings.Cut(string(out[len(head):nl]), " ")
		length, arg, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(length)
		out = out[nl+1:]
		if err != nil || n < 0 || n > len(out) {
			return frames
		}
		frames = append(frames, Frame{Kind: kind, Arg: arg, Data: out[:n:n]})
		out = out[n:]
	}
}

// Parse reads the output of Script. What it returns is bounded by the size of
// the output. Errors wrap ErrTorn or ErrNoScript.
func Parse(nonce string, out []byte) (*Host, error) {
	frames, login, err := split(nonce, out)
	if err != nil {
		return nil, err
	}
	h := &Host{
		Login: string(login), Tools: map[string]bool{}, Packages: map[string]string{},
		Spaces: map[string]Space{}, Units: map[string]UnitInfo{}, Processes: map[int][]string{},
		Paths: map[string]Path{}, Keys: map[string][]byte{}, Dirs: map[string][]string{},
	}
	links := map[string]string{}
	var order []string
	var content []byte
	seen := false
	for _, f := range frames {
		s := string(f.data)
		switch f.kind {
		case "version":
			if s != strconv.Itoa(Version) {
				return nil, fmt.Errorf("%w: version %q", ErrNoScript, s)
			}
			seen = true
		case "uid":
			h.UID = atoi(s, -1)
		case "clock":
			// Nanoseconds where date knows them; busybox prints the letters.
			secs, nanos, _ := strings.Cut(s, ".")
			h.Clock = time.Unix(int64(atoi(secs, 0)), int64(atoi(nanos, 0))).UTC()
		case "uptime":
			first, _, _ := strings.Cut(s, " ")
			v, _ := strconv.ParseFloat(first, 64)
			h.Uptime = time.Duration(v * float64(time.Second))
		case "boot":
			h.BootID = s
		case "machine":
			h.MachineID = s
		case "hostname":
			h.Hostname = s
		case "init":
			h.Init = s
		case "selinux":
			h.SELinux = s == "1"
		case "apparmor":
			h.AppArmor = s == "Y"
		case "tools":
			for _, t := range strings.Fields(s) {
				h.Tools[t] = true
			}
		case "packages":
			if f.arg == "status" {
				h.records(s)
			} else {
				h.packages(s)
			}
		case "sockets":
			if f.arg == "ss" {
				h.listeners(s)
			} else {
				h.sockets(s)
			}
		case "addresses":
			h.addresses(s)
		case "space":
			h.spaces(s)
		case "readonly":
			h.ReadOnly = strings.Fields(s)
		case "guests":
			h.guests(s)
		case "consoles":
			h.consoles(s)
		case "units":
			h.units(s)
		case "firewall":
			if h.Firewall == nil {
				h.Firewall = map[string]string{}
			}
			h.Firewall[f.arg] = s
		case "process":
			if pid := atoi(f.arg, 0); pid > 0 {
				h.Processes[pid] = strings.Split(strings.TrimRight(s, "\n"), "\n")
			}
		case "link":
			links[f.arg] = s
		case "stat":
			h.stats(s)
		case "order":
			order = splitLines(s)
		case "content":
			content = f.data
		case "key":
			h.Keys[f.arg] = publicKey(f.data)
		case "entry":
			h.Dirs[f.arg] = append(h.Dirs[f.arg], s)
		}
	}
	if !seen {
		return nil, fmt.Errorf("%w: no version", ErrNoScript)
	}
	for p, t := range links {
		if f, ok := h.Paths[p]; ok && f.Type == Symlink {
			f.Target = t
			h.Paths[p] = f
		}
	}
	for _, p := range order {
		f, ok := h.Paths[p]
		if !ok || f.Size < 0 || f.Size > int64(len(content)) {
			return nil, fmt.Errorf("%w: %q", ErrTorn, p)
		}
		f.Content, content = content[:f.Size:f.Size], content[f.Size:]
		f.HasData = true
		h.Paths[p] = f
	}
	if len(content) != 0 {
		return nil, ErrTorn
	}
	for p, f := range h.Paths {
		if f.Type == Regular && f.Size == 0 {
			f.HasData = true
		}
		f.TooBig = f.Type == Regular && f.Size > MaxContent
		h.Paths[p] = f
	}
	return h, nil
}

// split cuts the output into frames. Everything before the first frame is
// noise of the login shell.
func split(nonce string, out []byte) ([]frame, []byte, error) {
	head := []byte(nonce + " ")
	start := bytes.Index(out, head)
	if start < 0 {
		return nil, nil, fmt.Errorf("%w: no frame in %d bytes", ErrNoScript, len(out))
	}
	login := out[:start]
	out = out[start:]
	var frames []frame
	for {
		if !bytes.HasPrefix(out, head) {
			// A content frame whose files changed size is the one way in
			// which an honest host breaks the framing.
			if n := len(frames); n > 0 && frames[n-1].kind == "content" {
				return nil, nil, ErrTorn
			}
			return nil, nil, fmt.Errorf("%w: broken frame", ErrNoScript)
		}
		nl := bytes.IndexByte(out, '\n')
		if nl < 0 {
			return nil, nil, fmt.Errorf("%w: cut in a frame's head", ErrNoScript)
		}
		kind, rest, _ := strings.Cut(string(out[len(head):nl]), " ")
		length, arg, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(length)
		out = out[nl+1:]
		if err != nil || n < 0 {
			return nil, nil, fmt.Errorf("%w: bad length", ErrNoScript)
		}
		if n+1 > len(out) {
			if kind == "content" {
				return nil, nil, ErrTorn
			}
			return nil, nil, fmt.Errorf("%w: cut in a frame", ErrNoScript)
		}
		frames = append(frames, frame{kind, arg, out[:n:n]})
		if out[n] != '\n' {
			if kind == "content" {
				return nil, nil, ErrTorn
			}
			return nil, nil, fmt.Errorf("%w: frame without end", ErrNoScript)
		}
		out = out[n+1:]
		if kind == "end" {
			return frames, login, nil
		}
	}
}

func (h *Host) packages(s string) {
	for _, l := range splitLines(s) {
		f := strings.Fields(l)
		if len(f) == 3 && f[0] == "installed" {
			h.Packages[f[1]] = f[2]
		}
	}
}

// records reads the first lines of records of dpkg's status file.
func (h *Host) records(s string) {
	name, installed := "", false
	for _, l := range splitLines(s) {
		k, v, _ := strings.Cut(l, ": ")
		switch k {
		case "Package":
			name, installed = v, false
		case "Status":
			installed = strings.HasSuffix(v, " installed")
		case "Version":
			if name != "" && installed {
				h.Packages[name] = v
			}
		}
	}
}

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

func (h *Host) spaces(s string) {
	for _, l := range splitLines(s) {
		f := strings.Fields(l)
		if len(f) != 5 {
			continue
		}
		inodes := int64(atoi(f[3], -1))
		if f[2] == "0" {
			inodes = -1
		}
		h.Spaces[f[4]] = Space{Bytes: int64(atoi(f[0], 0)) * int64(atoi(f[1], 0)), Inodes: inodes}
	}
}

func (h *Host) guests(s string) {
	jobs := map[string]string{}
	var names []string
	for _, l := range splitLines(s) {
		file, what, ok := strings.Cut(l, ".xml:")
		if !ok {
			continue
		}
		name := file[strings.LastIndexByte(file, '/')+1:]
		if _, ok := jobs[name]; !ok {
			jobs[name] = "none"
			names = append(names, name)
		}
		if job, ok := strings.CutPrefix(what, "async='"); ok {
			if job = strings.TrimSuffix(job, "'"); job != "none" {
				jobs[name] = job
			}
		}
	}
	for _, n := range names {
		h.Guests = append(h.Guests, Guest{Name: n, Job: jobs[n]})
	}
}

func (h *Host) units(s string) {
	for _, block := range strings.Split(s, "\n\n") {
		var u UnitInfo
		id := ""
		for _, l := range splitLines(block) {
			k, v, _ := strings.Cut(l, "=")
			switch k {
			case "Id":
				id = v
			case "LoadState":
				u.Load = v
			case "ActiveState":
				u.Active = v
			case "SubState":
				u.Sub = v
			case "UnitFileState":
				u.File = v
			case "MainPID":
				u.MainPID = atoi(v, 0)
			case "InvocationID":
				u.Invocation = v
			case "ExecMainStartTimestampMonotonic":
				u.Started = time.Duration(atoi(v, 0)) * time.Microsecond
			case "Listen":
				u.Listen = append(u.Listen, v)
			case "NeedDaemonReload":
				u.NeedReload = v == "yes"
			case "ExecStart":
				// { path=/usr/sbin/libvirtd ; argv[]=/usr/sbin/libvirtd $LIBVIRTD_ARGS ; ignore_errors=no ; …
				_, rest, _ := strings.Cut(v, " argv[]=")
				line, _, _ := strings.Cut(rest, " ; ")
				u.Command = append(u.Command, strings.Fields(line)...)
			case "Environment":
				u.Environment = append(u.Environment, quoted(v)...)
			case "EnvironmentFiles":
				p, _, _ := strings.Cut(v, " (ignore_errors=")
				u.EnvironmentFiles = append(u.EnvironmentFiles, p)
			}
		}
		if id != "" {
			h.Units[id] = u
		}
	}
}

// quoted splits what systemctl shows of a list: words, in double quotes where
// they hold spaces.
func quoted(s string) []string {
	var out []string
	var b strings.Builder
	in, word := false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
			word = true
		case c == '"':
			in, word = !in, true
		case c == ' ' && !in:
			if word {
				out = append(out, b.String())
			}
			b.Reset()
			word = false
		default:
			b.WriteByte(c)
			word = true
		}
	}
	if word {
		out = append(out, b.String())
	}
	return out
}

func (h *Host) stats(s string) {
	for _, l := range splitLines(s) {
		f := strings.SplitN(l, " ", 14)
		if len(f) != 14 {
			continue
		}
		raw, err := strconv.ParseUint(f[0], 16, 32)
		if err != nil {
			continue
		}
		p := Path{
			Mode: uint32(raw) & 0o7777, UID: atoi(f[1], -1), GID: atoi(f[2], -1),
			Size:  int64(atoi(f[3], -1)),
			MTime: time.Unix(int64(atoi(f[4], 0)), 0).UTC(),
			Links: atoi(f[9], 0), Device: f[10], Owner: f[11], Group: f[12],
		}
		if t, err := time.Parse("2006-01-02 15:04:05 -0700", f[5]+" "+f[6]+" "+f[7]); err == nil {
			p.CTime = t.UTC()
		}
		p.Inode, _ = strconv.ParseUint(f[8], 10, 64)
		switch raw & 0o170000 {
		case 0o100000:
			p.Type = Regular
		case 0o040000:
			p.Type = Directory
		case 0o120000:
			p.Type = Symlink
		default:
			p.Type = Other
		}
		h.Paths[f[13]] = p
	}
}

// publicKey is the DER in the script's answer to a key query, nil where the
// key could not be read.
func publicKey(b []byte) []byte {
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "PUBLIC KEY" {
			return block.Bytes
		}
	}
	return nil
}

func splitLines(s string) []string {
	s = strings.Trim(s, "\n")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

func atoi(s string, otherwise int) int {
	v, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil {
		return otherwise
	}
	return int(v)
}
