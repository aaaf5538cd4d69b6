package faults

import (
	"fmt"
	"strings"
	"testing"
)

// hostFault is a fault of the host itself. Both scripts run as root there.
type hostFault struct {
	kind      string
	make      string // the fault begins
	undo      string // the fault is gone
	scenarios []scenario
	before    bool // in the full sweep also from before the run
	// paths are changed by the fault itself.
	paths []string
	down  bool // the daemon's absence is the fault's doing
	// blocks says that the fault may keep the reverter from finishing, too.
	blocks bool
	// spent has the reverter's timer come while the fault is still there.
	spent bool
}

const conf = "/etc/libvirt/libvirtd.conf"

func dropIn(text string) string {
	return "mkdir -p /etc/systemd/system/libvirtd.service.d; printf '" + text + "' >/etc/systemd/system/libvirtd.service.d/fault.conf; systemctl daemon-reload\n"
}

const masked = "systemctl mask --runtime libvirtd.service >/dev/null 2>&1\n"

const noDropIn = `
rm -rf /etc/systemd/system/libvirtd.service.d; systemctl daemon-reload; systemctl unmask --runtime libvirtd.service >/dev/null 2>&1 || :
systemctl reset-failed >/dev/null 2>&1 || :
`

// aroundAdmin puts a program before virt-admin: /usr/sbin is first in PATH.
func aroundAdmin(body string) string {
	return "printf '%s\\n' '#!/bin/sh' '" + body + "' >/usr/sbin/virt-admin; chmod 0755 /usr/sbin/virt-admin\n"
}

const noAdmin = "rm -f /usr/sbin/virt-admin\n"

// killsItsScript ends who asks for a reload: timeout, the subshell, the script.
const killsItsScript = `case "$1" in server-update-tls*) ;; *) exec /usr/bin/virt-admin "$@" ;; esac
rm -f /usr/sbin/virt-admin
above() { sed -n "s/^PPid:.//p" /proc/$1/status; }
a=$PPID; b=$(above $a); c=$(above $b)
kill -KILL $c $b $a`

// inTheWay replaces a path by something else.
func inTheWay(path, something string) (string, string) {
	return fmt.Sprintf("mv %[1]s /var/tmp/fault-kept\n%[2]s\n", path, something),
		fmt.Sprintf("rm -rf %[1]s; mv /var/tmp/fault-kept %[1]s\n", path)
}

func hostFaults() []hostFault {
	fill := func(dir string) string {
		return "umask 077; cat /dev/zero >" + dir + "/fault-fill 2>/dev/null || :\n"
	}
	// Who may open them would keep them after they are removed: the observer does.
	inodes := func(dir string) string {
		return "umask 077; mkdir -p " + dir + "/fault-inodes; i=0; while [ $i -lt 4000 ] && { true >" + dir + "/fault-inodes/$i; } 2>/dev/null; do i=$((i+1)); done\n"
	}
	empty := func(dir string) string { return "rm -rf " + dir + "/fault-*\n" }
	readOnly := func(dir string) (string, string) {
		return fmt.Sprintf("mkdir -p %[1]s; mount --bind %[1]s %[1]s; mount -o remount,ro,bind %[1]s\n", dir), fmt.Sprintf("umount -l %s\n", dir)
	}
	var out []hostFault
	for _, dir := range []string{"/var/lib/virtrust", "/etc/pki", "/run/virtrust"} {
		out = append(out,
			hostFault{kind: "no space in " + dir, make: fill(dir), undo: empty(dir), scenarios: []scenario{renewal, settings, onboarding}, blocks: true},
			hostFault{kind: "no inodes in " + dir, make: inodes(dir), undo: empty(dir), scenarios: []scenario{renewal, settings, onboarding}, blocks: true})
	}
	for _, dir := range []string{"/var/lib/virtrust", "/etc/pki", "/etc/libvirt"} {
		ro, rw := readOnly(dir)
		out = append(out, hostFault{kind: dir + " read-only", make: ro, undo: rw, scenarios: []scenario{renewal, settings}, blocks: true})
	}
	for what, how := range map[string]string{
		"a directory":     "mkdir " + conf,
		"a dangling link": "ln -s /nowhere " + conf,
		"a FIFO":          "mkfifo " + conf,
	} {
		mk, un := inTheWay(conf, how)
		out = append(out, hostFault{kind: "target becomes " + what, make: mk, undo: un, scenarios: []scenario{settings}, paths: []string{conf}, blocks: true})
	}
	out = append(out,
		hostFault{kind: "target becomes a mount point", make: "mount --bind " + conf + " " + conf + "\n", undo: "umount -l " + conf + "\n", scenarios: []scenario{settings}, blocks: true},
		hostFault{kind: "target is immutable", make: "/var/tmp/observer +i " + conf + "\n", undo: "/var/tmp/observer -i " + conf + "\n", scenarios: []scenario{settings}, before: true, blocks: true},
		hostFault{kind: "libvirtd fails to start", make: dropIn(`[Service]\nExecStartPre=/bin/false\n`), undo: noDropIn, scenarios: []scenario{settings, onboarding}, before: true, down: true, blocks: true},
		hostFault{kind: "libvirtd starts and serves nothing", make: dropIn(`[Service]\nType=simple\nExecStart=\nExecStart=/bin/sleep 1000\n`), undo: noDropIn + "systemctl restart libvirtd.service\n", scenarios: []scenario{settings, onboarding}, down: true, blocks: true},
		hostFault{kind: "libvirtd is masked", make: masked, undo: noDropIn, scenarios: []scenario{settings, onboarding}, before: true, down: true, blocks: true},
		hostFault{kind: "libvirtd is masked until the timer has come", make: masked, undo: noDropIn, scenarios: []scenario{onboarding}, down: true, blocks: true, spent: true},
		hostFault{kind: "libvirtd is killed during its reload", make: aroundAdmin(`rm -f /usr/sbin/virt-admin; systemctl kill -s KILL libvirtd.service; exit 1`), undo: noAdmin, scenarios: []scenario{renewal}, before: true, down: true},
		hostFault{kind: "the script is killed while new clients wait", make: aroundAdmin(killsItsScript), undo: noAdmin, scenarios: []scenario{renewal}, before: true},
		hostFault{kind: "virt-admin fails", make: aroundAdmin("exit 1"), undo: noAdmin, scenarios: []scenario{renewal, adoption}, before: true, down: true},
		hostFault{kind: "virt-admin hangs", make: aroundAdmin("exec sleep 300"), undo: noAdmin, scenarios: []scenario{renewal}, down: true},
	)
	return out
}

// smallTrees puts file systems that are soon full where virtrust writes.
const smallTrees = `
mkdir -p /var/lib/virtrust /etc/pki /run/virtrust
mount -t tmpfs -o size=1m,nr_inodes=400,mode=0700 fault /var/lib/virtrust
mount -t tmpfs -o size=1m,nr_inodes=400,mode=0755 fault /etc/pki
mount -t tmpfs -o size=256k,nr_inodes=100,mode=0700 fault /run/virtrust
`

// trial is the fault at the n-th operation, or before the run.
func (f hostFault) trial(sc scenario, n int, r recovery) trial {
	tr := trial{scenario: sc, fault: fault{kind: f.kind, n: n}, recovery: r, canAsk: !f.blocks, ignore: f.paths}
	if f.down {
		tr.watch = []string{"down"}
	}
	if n == 0 {
		tr.before = func(s *site) { s.must(f.make) }
		tr.struck = func(*site) bool { return true }
		tr.after = func(s *site) { s.must(f.undo) }
		return tr
	}
	tr.early = func(s *site) { s.must(f.make) }
	tr.after = func(s *site) {
		// What was not hit must not be undone.
		if struck, _, _, _ := s.proxy.state(); struck {
			if f.spent {
				s.must(timerScript)
			}
			s.must(f.undo)
		}
	}
	return tr
}

// TestHost breaks the host under the transaction: each fault at every
// sixteenth operation, begun differently, so that each operation meets some.
func TestHost(t *testing.T) {
	t.Parallel()
	sites := startHosts(t, map[bool]int{true: 3, false: 1}[full])
	for _, s := range sites {
		s.must(smallTrees) // before anything is there that it would hide
	}
	faults := hostFaults()
	var trials []trial
	if full {
		const step = 16
		sizes := measure(t, sites[0], scenarios)
		for i, f := range faults {
			if f.before {
				trials = append(trials, f.trial(f.scenarios[0], 0, recoveryOf(2*(i%4))))
			}
			for k, n := 0, 5+i%step; ; k, n = k+1, n+step {
				sc := f.scenarios[k%len(f.scenarios)]
				last := sizes[sc.name].chunks
				if f.paths != nil {
					last = last * 3 / 4 // after the switch it would be another's change, which stays
				}
				if n > last {
					break
				}
				trials = append(trials, f.trial(sc, n, recoveryOf(2*(k%4))))
			}
		}
	} else {
		for i, f := range faults {
			// One of each fault of the daemon and of the target is short enough.
			if strings.Contains(f.kind, "in /") || strings.Contains(f.kind, "hangs") || strings.Contains(f.kind, "starts") {
				continue
			}
			trials = append(trials, f.trial(f.scenarios[0], 30, recoveryOf(2*(i%4))))
		}
	}
	sweep(t, sites, trials, false)
}

// TestSFTP has the n-th SFTP request answered with each error, with an error
// although it was carried out, or never.
func TestSFTP(t *testing.T) {
	t.Parallel()
	sites := startHosts(t, map[bool]int{true: 3, false: 1}[full])
	setUpSFTP(t, sites)
	var trials []trial
	kinds := []struct {
		name    string
		code    int
		carried int
	}{
		{"SFTP: no such file", 2, 0}, {"SFTP: permission denied", 3, 0}, {"SFTP: failure", 4, 0}, {"SFTP: bad message", 5, 0},
		{"SFTP: no connection", 6, 0}, {"SFTP: connection lost", 7, 0}, {"SFTP: not supported", 8, 0}, {"SFTP: end of file", 1, 0},
		{"SFTP: carried out, answered failure", 4, 1}, {"SFTP: no answer ever", -1, 0}, {"SFTP: carried out, no answer ever", -1, 1},
	}
	for k, kind := range kinds {
		// Past the last request: what is not hit shows that the sweep is over.
		last, step := 40, 5
		if kind.code < 0 {
			step = 8
		}
		if !full {
			if kind.code < 0 || k%3 != 0 {
				continue
			}
			last, step = 24, 13
		}
		for n := 1 + k%step; n <= last; n += step {
			sc := renewal
			if full {
				sc = scenarios[(n/step+k)%len(scenarios)]
			}
			trials = append(trials, trial{
				scenario: sc, fault: fault{kind: kind.name, n: n}, recovery: byTimer, canAsk: true,
				before: func(s *site) {
					s.must(fmt.Sprintf("rm -f /var/tmp/sftpfault.struck; echo %d %d %d >/var/tmp/sftpfault", n, kind.code, kind.carried))
				},
				struck: func(s *site) bool { return strings.Contains(s.must("ls /var/tmp"), "sftpfault.struck") },
				after:  func(s *site) { s.must("rm -f /var/tmp/sftpfault") },
			})
		}
	}
	sweep(t, sites, trials, false)
}
