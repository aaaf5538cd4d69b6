package tasks

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/virtrust/virtrust/internal/conffile"
	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/plan"
)

// Where a host says which account QEMU runs as: qemu.conf where it is set
// there, else the directory that libvirtd gives to that account at its start.
const (
	qemuState  = "/var/lib/libvirt/qemu"
	passwdFile = "/etc/passwd"
	groupFile  = "/etc/group"
)

func accountQueries() []facts.Query {
	return []facts.Query{facts.Content(qemuConf), facts.Stat(qemuState), facts.Content(passwdFile), facts.Content(groupFile)}
}

// account is what QEMU runs as on a host.
type account struct {
	uid, gid    int
	user, group string // names, or numbers where an id has none
	// others may read what the group may, besides QEMU's user. It is also true
	// where nobody can tell.
	others []string
}

// access is who may read a key.
type access struct {
	owner, group string
	mode         uint32
}

// qemuAccount finds the account; the text says why there is none.
func qemuAccount(h *facts.Host) (account, string) {
	a := account{uid: -1, gid: -1}
	state := h.Path(qemuState)
	if state.Type == facts.Directory {
		a.uid, a.gid = state.UID, state.GID
	}
	users, groupList := accounts(h, passwdFile), accounts(h, groupFile)
	if content, ok := h.Content(qemuConf); ok {
		if file, err := conffile.Parse(content); err == nil {
			for key, list := range map[string][][]string{"user": users, "group": groupList} {
				v, set := file.Get(key)
				text, _ := v.Str()
				if !set || text == "" {
					continue
				}
				id := lookup(list, text)
				if id < 0 {
					return a, fmt.Sprintf("%s sets %s = %q, which %s does not have", qemuConf, key, text, map[string]string{"user": passwdFile, "group": groupFile}[key])
				}
				if key == "user" {
					a.uid = id
				} else {
					a.gid = id
				}
			}
		}
	}
	if a.uid < 0 || a.gid < 0 {
		return a, fmt.Sprintf("%s does not exist and %s names no user and group: nothing says as whom QEMU runs", qemuState, qemuConf)
	}
	a.user, a.group = name(users, a.uid), name(groupList, a.gid)
	a.others = members(users, groupList, a.uid, a.gid)
	return a, ""
}

// accounts splits passwd or group; nil where it was not read.
func accounts(h *facts.Host, p string) [][]string {
	content, _ := h.Content(p)
	var out [][]string
	for l := range strings.SplitSeq(string(content), "\n") {
		if f := strings.Split(l, ":"); len(f) >= 4 {
			out = append(out, f)
		}
	}
	return out
}

// lookup gives the id that libvirt takes a text of qemu.conf for: "+107" is a
// number, anything else a name first and then a number.
func lookup(list [][]string, text string) int {
	digits, number := strings.CutPrefix(text, "+")
	for _, f := range list {
		if !number && f[0] == text {
			return number32(f[2])
		}
	}
	return number32(digits)
}

func number32(s string) int {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return -1
	}
	return int(n)
}

func name(list [][]string, id int) string {
	for _, f := range list {
		if number32(f[2]) == id {
			return f[0]
		}
	}
	return strconv.Itoa(id)
}

// members are the accounts other than uid that have the group, by their own
// entry or by the group's. A host that did not show its files may have any.
func members(users, groupList [][]string, uid, gid int) []string {
	var out []string
	known := false
	ids := map[string]int{}
	for _, f := range users {
		ids[f[0]] = number32(f[2])
		if number32(f[3]) == gid && number32(f[2]) != uid {
			out = append(out, f[0])
		}
	}
	for _, f := range groupList {
		if number32(f[2]) != gid {
			continue
		}
		known = true
		for m := range strings.SplitSeq(f[3], ",") {
			if m = strings.TrimSpace(m); m == "" {
				continue
			}
			if id, ok := ids[m]; !ok || id != uid {
				out = append(out, m)
			}
		}
	}
	if !known || len(users) == 0 {
		out = append(out, "members that the host's files do not show")
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// keyAccess is who may read a key that QEMU reads: its group where nobody else
// is in it, so that the key cannot be changed by QEMU, else its user alone.
func (a account) keyAccess() access {
	if len(a.others) == 0 {
		return access{"root", a.group, 0o640}
	}
	return access{a.user, a.group, 0o400}
}

// exposed says what is wrong with the access to a key; empty when QEMU can
// read it and nobody else. Both forms of keyAccess are right as long as the
// group has no other members.
func (a account) exposed(f facts.Path) string {
	switch {
	case f.Mode&0o007 != 0:
		return fmt.Sprintf("everyone could read the key (mode %04o)", f.Mode)
	case f.UID != 0 && f.UID != a.uid:
		return fmt.Sprintf("the key belongs to %s, QEMU runs as %s", f.Owner, a.user)
	case f.Mode&0o030 != 0:
		return fmt.Sprintf("the group could change the key (mode %04o)", f.Mode)
	case f.Mode&0o040 != 0 && f.GID != a.gid:
		return fmt.Sprintf("group %s could read the key", f.Group)
	case f.Mode&0o040 != 0 && len(a.others) > 0:
		return fmt.Sprintf("group %s could read the key and has other members: %s", f.Group, strings.Join(a.others, ", "))
	case f.UID == a.uid && f.Mode&0o400 != 0, f.GID == a.gid && f.Mode&0o040 != 0:
		return ""
	}
	return fmt.Sprintf("QEMU (%s:%s) cannot read the key (%s:%s %04o)", a.user, a.group, f.Owner, f.Group, f.Mode)
}

// noAccount is the finding of a host that does not say as whom QEMU runs.
func noAccount(id plan.ID, why string) plan.Finding {
	return plan.Finding{Code: "no-qemu-account", Severity: plan.Problem, Task: id, Holds: true, Text: why,
		Hint: "install libvirt's QEMU driver on the host (package libvirt-daemon-driver-qemu), or set user and group in " + qemuConf}
}
