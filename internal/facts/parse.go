package facts

import (
	"encoding/pem"
	"fmt"
	"strconv"
	"strings"
	"time"
)

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
