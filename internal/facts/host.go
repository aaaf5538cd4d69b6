package facts

import (
	"net/netip"
	"path"
	"strings"
	"time"
)

// Host is what one look saw on one host.
type Host struct {
	Name      string        `json:"name"` // the inventory's name, set by the caller
	UID       int           `json:"uid"`
	Clock     time.Time     `json:"clock"`  // the host's own clock, to the second at least
	Uptime    time.Duration `json:"uptime"` // since boot
	BootID    string        `json:"boot_id"`
	MachineID string        `json:"machine_id"`
	Hostname  string        `json:"hostname"`
	Init      string        `json:"init"` // name of PID 1
	SELinux   bool          `json:"selinux"`
	AppArmor  bool          `json:"apparmor"`
	// HostKey is the SHA256 fingerprint of the SSH key the host showed.
	HostKey string `json:"host_key"`
	// Login is noise that the login shell printed before the script ran.
	Login    string            `json:"login,omitempty"`
	Tools    map[string]bool   `json:"tools"`
	Packages map[string]string `json:"packages"` // name to version, as the package manager says
	// Listening are the TCP ports that something listens on, and Addresses the
	// host's own, where they were asked for.
	Listening []netip.AddrPort `json:"listening"`
	Addresses []netip.Prefix   `json:"addresses"`
	// Interfaces are the addresses again, by the interface that has them.
	Interfaces map[string][]netip.Prefix `json:"interfaces,omitempty"`
	Spaces     map[string]Space          `json:"spaces"`
	ReadOnly   []string                  `json:"read_only,omitempty"` // of /etc, /var/lib, /run: those root cannot write
	Guests     []Guest                   `json:"guests,omitempty"`
	// Consoles are the VNC consoles of running guests, where they were asked for.
	Consoles  []Console           `json:"consoles,omitempty"`
	Units     map[string]UnitInfo `json:"units"`
	Processes map[int][]string    `json:"processes"` // arguments of units' main processes
	Paths     map[string]Path     `json:"paths"`
	Keys      map[string][]byte   `json:"keys"` // path to DER of the public key; empty where it could not be read
	Dirs      map[string][]string `json:"dirs"`
	// Firewall is what the packet filter's owners answered, by the question:
	// "managers" (the active ones of firewalld, ufw, nftables, iptables,
	// ip6tables and netfilter-persistent), "default", "active" and "zone:NAME"
	// of firewalld (busctl's JSON), "nft" (nft's JSON), "iptables" and
	// "ip6tables" (what their -save prints). Nil when it was not asked.
	Firewall map[string]string `json:"firewall,omitempty"`
	// Served is what answered on the ports that were looked at, by address.
	Served map[string]Served `json:"served,omitempty"`
	// Skew is the host's clock minus ours.
	Skew time.Duration `json:"skew"`
}

// Space is the room left in the file system that holds a directory.
type Space struct {
	Bytes  int64 `json:"bytes"`
	Inodes int64 `json:"inodes"` // -1 where the file system does not count them
}

// Guest is a running guest and the job it is in.
type Guest struct {
	Name string `json:"name"`
	// Job is the asynchronous job ("migration out", "migration in", "save" …)
	// or "none"; from async= in libvirt's status file (verified.md §9).
	Job string `json:"job"`
}

// Console is where a running guest's VNC console answers on its host.
type Console struct {
	Guest string `json:"guest"`
	// Address is host:port as the host itself reaches it, or the absolute path
	// of a socket. It is the console's key in [Host.Served].
	Address string `json:"address"`
}

// UnitInfo is a systemd unit's state.
type UnitInfo struct {
	Load       string        `json:"load"`        // loaded, not-found, masked
	Active     string        `json:"active"`      // active, inactive, failed …
	Sub        string        `json:"sub"`         // running, listening, dead …
	File       string        `json:"file"`        // enabled, disabled, masked …
	MainPID    int           `json:"main_pid"`    // 0 when no process runs
	Invocation string        `json:"invocation"`  // changes with each start
	Started    time.Duration `json:"started"`     // since boot, of the main process; 0 when none ran
	Listen     []string      `json:"listen"`      // of a socket unit
	NeedReload bool          `json:"need_reload"` // systemctl daemon-reload is due
	// Command is the arguments of a service's program as the unit has them,
	// variables unexpanded; Environment its NAME=value, and EnvironmentFiles
	// the files from which more of them are read at each start, last one wins.
	Command          []string `json:"command,omitempty"`
	Environment      []string `json:"environment,omitempty"`
	EnvironmentFiles []string `json:"environment_files,omitempty"`
}

// Type is what a path is.
type Type string

// The types of paths, from the mode's type bits.
const (
	Absent    Type = ""
	Regular   Type = "file"
	Directory Type = "directory"
	Symlink   Type = "link"
	Other     Type = "other" // FIFO, socket or device
)

// Path is what one path was found to be, links not followed.
type Path struct {
	Type    Type      `json:"type"`
	Mode    uint32    `json:"mode"` // permission bits with setuid, setgid, sticky
	UID     int       `json:"uid"`
	GID     int       `json:"gid"`
	Owner   string    `json:"owner"`
	Group   string    `json:"group"`
	Size    int64     `json:"size"`
	MTime   time.Time `json:"mtime"`
	CTime   time.Time `json:"ctime"`
	Inode   uint64    `json:"inode"`
	Links   int       `json:"links"`
	Device  string    `json:"device"`
	Target  string    `json:"target,omitempty"` // of a link, as it is written
	Content []byte    `json:"content,omitempty"`
	HasData bool      `json:"has_data"` // Content was asked for and read
	TooBig  bool      `json:"too_big"`  // regular, over MaxContent
}

// Served is what a TLS look at a port saw.
type Served struct {
	// Chain is the DER certificates shown, leaf first.
	Chain [][]byte `json:"chain,omitempty"`
	// Problem says why no chain was seen: refused, prohibited, timeout,
	// not tls. Empty when one was.
	Problem string `json:"problem,omitempty"`
}

// Path is what is known of p; the zero Path (Absent) when it does not exist
// or was not asked for.
func (h *Host) Path(p string) Path { return h.Paths[p] }

// Resolve follows links from p through what the look saw and returns the last
// path and what it is. Ok is false when the way leaves what was looked at.
func (h *Host) Resolve(p string) (string, Path, bool) {
	for range MaxDepth + 2 {
		f, ok := h.Paths[p]
		if !ok {
			return p, Path{}, true
		}
		if f.Type != Symlink {
			return p, f, true
		}
		next := f.Target
		if !path.IsAbs(next) {
			// As the script joins them: not cleaned, so that the name is the
			// same one the host resolved.
			next = p[:strings.LastIndexByte(p, '/')] + "/" + next
		}
		if _, ok := h.Paths[next]; !ok && !strings.HasPrefix(next, "/etc/") {
			return next, Path{}, false
		}
		p = next
	}
	return p, Path{}, false
}

// Content is what a reader of p would read, links followed.
func (h *Host) Content(p string) ([]byte, bool) {
	_, f, ok := h.Resolve(p)
	if !ok || f.Type != Regular || !f.HasData {
		return nil, false
	}
	return f.Content, true
}

// PublicKey is the DER of the public half of the key that p leads to.
func (h *Host) PublicKey(p string) ([]byte, bool) {
	q, _, ok := h.Resolve(p)
	if !ok {
		return nil, false
	}
	k, found := h.Keys[q]
	return k, found && len(k) > 0
}

// QEMU is the version of the host's QEMU as its package manager says; empty
// when it does not know.
func (h *Host) QEMU() string {
	for _, p := range []string{"qemu-system-x86", "qemu-kvm-core", "qemu-system-x86-core", "qemu-x86"} {
		if v := h.Packages[p]; v != "" {
			return v
		}
	}
	return ""
}

// Busy lists the guests that are in a job.
func (h *Host) Busy() []Guest {
	var out []Guest
	for _, g := range h.Guests {
		if g.Job != "none" {
			out = append(out, g)
		}
	}
	return out
}

// Since converts a moment since boot, as systemd's monotonic timestamps, to
// the host's own clock.
func (h *Host) Since(boot time.Duration) time.Time {
	return h.Clock.Add(boot - h.Uptime)
}
