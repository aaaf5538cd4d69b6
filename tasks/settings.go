package tasks

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/conffile"
	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

// settings are the managed keys of one configuration file.
type settings struct {
	want inventory.Settings
	// Of the certificate that QEMU reads, where the file is QEMU's.
	names     []string
	authority string
}

func (b build) settings(s inventory.Settings) *settings {
	out := &settings{want: s}
	for _, c := range b.host.Policy.Certificates {
		if c.Install.Owner == inventory.QEMUAccount && s.Path == qemuConf {
			out.names, out.authority = slices.Clone(c.DNSNames), c.Authority
			for _, a := range c.IPs {
				out.names = append(out.names, a.String())
			}
		}
	}
	return out
}

func (s *settings) ID() plan.ID { return plan.ID("settings." + s.want.Path) }

func (s *settings) Needs() []facts.Query {
	qs := append(statAll(parents(s.want.Path)), facts.Content(s.want.Path, "ca_file", "cert_file", "key_file", "crl_file"), facts.Content(loadedFile))
	if u := s.unit(); u != "" {
		qs = append(qs, facts.Unit(u))
	}
	return qs
}

// unit is the service that reads the file, at its start only.
func (s *settings) unit() string {
	switch s.want.Path {
	case libvirtdConf, qemuConf:
		return libvirtdService
	}
	return ""
}

// hasUnit reports whether the host has the service that reads the file. Where
// it has none, as where systemd does not run, there is nothing to restart.
func (s *settings) hasUnit(h *facts.Host) bool {
	load := h.Units[s.unit()].Load
	return load != "" && load != "not-found"
}

// digest identifies the managed values, not the file: an edit of another key
// asks for no restart.
func (s *settings) digest() string {
	var b strings.Builder
	for _, v := range s.want.Values {
		fmt.Fprintf(&b, "%s = %s\n", v.Key, v.Value)
	}
	return plan.Digest([]byte(b.String()))
}

func (s *settings) Diff(h *facts.Host, _ time.Time) ([]plan.Op, []plan.Finding) {
	if len(s.want.Values) == 0 {
		return nil, nil
	}
	id, p := s.ID(), s.want.Path
	at := h.Path(p)
	switch {
	case at.Type == facts.Absent:
		return nil, []plan.Finding{{
			Code: "settings-missing", Severity: plan.Problem, Task: id, Holds: true,
			Text: p + " does not exist",
			Hint: "install libvirt's daemon on the host (package libvirt-daemon-system or libvirt-daemon)",
		}}
	case at.Type != facts.Regular:
		return nil, []plan.Finding{inTheWay(id, p, at, "a configuration file")}
	}
	content, ok := h.Content(p)
	if !ok {
		return nil, []plan.Finding{{Code: "settings-too-large", Severity: plan.Problem, Task: id, Holds: true,
			Text: fmt.Sprintf("%s has %d bytes, more than a configuration file has", p, at.Size), Hint: "look at it, and put the distribution's file in its place"}}
	}
	file, err := conffile.Parse(content)
	if err != nil {
		return nil, []plan.Finding{{Code: "settings-unreadable", Severity: plan.Problem, Task: id, Holds: true,
			Text: fmt.Sprintf("%s: %v: libvirt would not read it either", p, err), Hint: "mend the line on the host, then plan again"}}
	}
	edits, found := s.edit(file)
	found = append(found, s.otherPaths(file)...)
	if s.names != nil {
		found = append(found, migrationHost(id, file, s.names)...)
	}
	meta := plan.Meta{Task: id, Wave: plan.WaveIdentity}
	var ops []plan.Op
	if len(edits) > 0 {
		meta.Reason = "settings differ"
		after := plan.StateOf(at)
		after.Digest = plan.Digest(file.Bytes())
		ops = append(ops, plan.WriteFile{Meta: meta, Path: p, Before: plan.StateOf(at), After: after, Edits: edits})
	} else if u := s.unit(); u != "" && !loaded(h, u, "settings:"+p, s.digest(), p) {
		meta.Reason = "the daemon started before the file was changed"
	}
	if meta.Reason != "" && s.hasUnit(h) {
		ops = append(ops, plan.Activate{Meta: meta, Unit: s.unit(), How: plan.Restart, Loads: []plan.Load{{Item: "settings:" + p, Digest: s.digest()}}})
	}
	return ops, found
}

// otherPaths finds identities at other paths than the default ones: libvirt
// reloads the default files only, whatever these keys say (verified.md §3).
func (s *settings) otherPaths(f *conffile.File) []plan.Finding {
	if s.want.Path != libvirtdConf {
		return nil
	}
	defaults := map[string]string{"ca_file": libvirtTrust, "cert_file": libvirtDir + "/servercert.pem", "key_file": libvirtDir + "/private/serverkey.pem"}
	var out []plan.Finding
	for _, k := range []string{"ca_file", "cert_file", "key_file"} {
		v, ok := f.Get(k)
		if text, _ := v.Str(); ok && text != defaults[k] {
			out = append(out, plan.Finding{
				Code: "other-paths", Severity: plan.Problem, Task: s.ID(), Holds: true,
				Text: fmt.Sprintf("%s sets %s = %s: libvirt starts with that file and a reload would silently switch to %s", s.want.Path, k, v, defaults[k]),
				Hint: "comment the line out on the host, then plan again",
			})
		}
	}
	return out
}

// edit makes the file what the policy wants.
func (s *settings) edit(file *conffile.File) (edits []plan.Edit, found []plan.Finding) {
	for _, v := range s.want.Values {
		have, set := file.Get(v.Key)
		if set && have.Equal(v.Value) {
			continue
		}
		e := plan.Edit{Key: v.Key, New: v.Value.String()}
		if set {
			e.Old = have.String()
		}
		if err := file.Set(v.Key, v.Value); err != nil {
			found = append(found, plan.Finding{Code: "settings-unreadable", Severity: plan.Problem, Task: s.ID(), Holds: true, Text: fmt.Sprintf("%s: %s: %v", s.want.Path, v.Key, err)})
			continue
		}
		edits = append(edits, e)
	}
	return edits, found
}

// after is the content that the file has when the policy's values are in it;
// nil where they cannot be written.
func (s *settings) after(content []byte) []byte {
	file, err := conffile.Parse(content)
	if err != nil {
		return nil
	}
	if _, found := s.edit(file); len(found) > 0 {
		return nil
	}
	return file.Bytes()
}

// Concerns is QEMU's authority where the file tells libvirt where QEMU's
// identity lies.
func (s *settings) Concerns() []string {
	if s.authority == "" {
		return nil
	}
	return []string{s.authority}
}

// Loaded is nothing: the file names no CA.
func (s *settings) Loaded(*facts.Host) ([]string, bool) { return nil, false }
