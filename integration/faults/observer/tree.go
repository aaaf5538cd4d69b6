package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// snapshot is every name under the trees that virtrust manages, with type,
// mode, owner and content, and the firewall's live rules.
func snapshot(kind string) map[string]string {
	out := map[string]string{}
	for _, root := range []string{"/etc/pki", "/etc/libvirt", "/etc/nftables.conf", "/etc/iptables", "/etc/ufw", "/etc/firewalld"} {
		filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			info, err := os.Lstat(p)
			if err != nil {
				return nil
			}
			st := info.Sys().(*syscall.Stat_t)
			what := ""
			switch {
			case info.Mode().IsRegular():
				b, _ := os.ReadFile(p)
				what = digest(b)
			case info.Mode()&fs.ModeSymlink != 0:
				what, _ = os.Readlink(p)
			}
			if strings.HasPrefix(d.Name(), ".virtrust-") && d.IsDir() {
				return filepath.SkipDir // staging: leftovers tells of it
			}
			if strings.HasPrefix(d.Name(), "fault-") {
				if d.IsDir() {
					return filepath.SkipDir // the test's own
				}
				return nil
			}
			if p == "/etc/libvirt/nwfilter" || p == "/etc/libvirt/qemu" {
				return filepath.SkipDir // libvirtd's own
			}
			out[p] = fmt.Sprintf("%s %d:%d %s", info.Mode(), st.Uid, st.Gid, what)
			return nil
		})
	}
	lines, err := wallLines(kind)
	if err != nil {
		out["firewall"] = err.Error()
	}
	for _, l := range lines {
		out["rule "+l] += "."
	}
	for _, q := range []string{"is-enabled", "is-active"} {
		b, _ := exec.Command("systemctl", q, "libvirtd-tls.socket").Output()
		out["libvirtd-tls.socket "+q] = strings.TrimSpace(string(b))
	}
	return out
}

// leftovers is what a finished transaction must not leave.
func leftovers() []string {
	out := []string{}
	filepath.WalkDir("/etc", func(p string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), ".virtrust-") || strings.HasSuffix(p, ".virtrust-revert") {
			out = append(out, p)
		}
		return nil
	})
	for _, p := range []string{"armed", "armed.new", "staging", "journal.new"} {
		if _, err := os.Lstat("/var/lib/virtrust/" + p); err == nil {
			out = append(out, "/var/lib/virtrust/"+p)
		}
	}
	runs, _ := filepath.Glob("/var/lib/virtrust/run-*")
	if len(runs) > 1 {
		out = append(out, runs...)
	}
	if b, err := os.ReadFile("/run/virtrust/lease"); err == nil && strings.Contains(string(b), "run ") {
		out = append(out, "lease: "+strings.ReplaceAll(string(b), "\n", " "))
	}
	b, _ := exec.Command("systemctl", "list-units", "--all", "--plain", "--no-legend", "virtrust-revert-*").Output()
	if s := strings.TrimSpace(string(b)); s != "" {
		out = append(out, s)
	}
	return out
}
