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
	// proxy says that the policy has a block of its own for virtproxyd.conf,
	// port is that of the policy's listener; 0 without one.
	proxy bool
	port  int
}

func (b build) settings(s inventory.Settings) *settings {
	out := &settings{want: s}
	if s.Path == libvirtdConf {
		if b.listens() {
			out.port = b.port()
		}
		for _, o := range b.host.Policy.Settings {
			out.proxy = out.proxy || o.Path == virtproxydConf
		}
	}
	if s.Path == virtproxydConf {
		// What the policy says of libvirtd is meant for whatever listens.
		for _, o := range b.host.Policy.Settings {
			if o.Path == libvirtdConf {
				out.want.Values = append(slices.Clone(s.Values), without(o.Values, s.Values)...)
			}
		}
	}
	for _, c := range b.host.Policy.Certificates {
		if c.Install.Owner == inventory.QEMUAccount && c.NeededFor != inventory.ForVNC && s.Path == qemuConf {
			out.names, out.authority = slices.Clone(c.DNSNames), c.Authority
			for _, a := range c.IPs {
				out.names = append(out.names, a.String())
			}
		}
	}
	return out
}

// daemonSettings is the task of libvirtd.conf, which is there for the listener
// also where the policy sets nothing in it.
func (b build) daemonSettings() *settings {
	for _, s := range b.host.Policy.Settings {
		if s.Path == libvirtdConf {
			return b.settings(s)
		}
	}
	return b.settings(inventory.Settings{Path: libvirtdConf})
}

// without is all values whose keys are not among others.
func without(all, others []inventory.Setting) []inventory.Setting {
	var out []inventory.Setting
	for _, v := range all {
		if !slices.ContainsFunc(others, func(o inventory.Setting) bool { return o.Key == v.Key }) {
			out = append(out, v)
		}
	}
	return out
}

// target is the file that takes the values on this host: virtproxyd reads
// another one than libvirtd. Empty where no daemon of the host reads it.
func (s *settings) target(h *facts.Host) string {
	by := layoutOf(h)
	switch {
	case s.want.Path == libvirtdConf && by.conf == virtproxydConf:
		if s.proxy {
			return ""
		}
		return virtproxydConf
	case s.want.Path == virtproxydConf && by.conf != virtproxydConf, s.want.Path == virtqemudConf && by.qemu != virtqemudService:
		return ""
	}
	return s.want.Path
}

// values are the policy's and, for a libvirtd without socket units, those that
// have it listen where the listener says.
func (s *settings) values(h *facts.Host) []inventory.Setting {
	if s.port == 0 || layoutOf(h).kind != byListen {
		return s.want.Values
	}
	return append(slices.Clone(s.want.Values), without([]inventory.Setting{
		{Key: "listen_tls", Value: conffile.Bool(true)}, {Key: "tls_port", Value: conffile.String(portText(s.port))},
	}, s.want.Values)...)
}

func (s *settings) ID() plan.ID { return plan.ID("settings." + s.want.Path) }

func (s *settings) Needs() []facts.Query {
	qs := append(statAll(parents(s.want.Path)), facts.Content(loadedFile))
	files := []string{s.want.Path}
	if s.want.Path == libvirtdConf {
		files = append(files, virtproxydConf)
	}
	for _, f := range files {
		qs = append(qs, facts.Content(f, "ca_file", "cert_file", "key_file", "crl_file"))
	}
	return append(qs, layoutQueries()...)
}

// digest identifies the managed values, not the file: an edit of another key
// asks for no restart.
func (s *settings) digest(h *facts.Host) string {
	var b strings.Builder
	for _, v := range s.values(h) {
		fmt.Fprintf(&b, "%s = %s\n", v.Key, v.Value)
	}
	return plan.Digest([]byte(b.String()))
}

func (s *settings) Diff(h *facts.Host, _ time.Time) ([]plan.Op, []plan.Finding) {
	id, p := s.ID(), s.target(h)
	if len(s.values(h)) == 0 || p == "" {
		return nil, nil
	}
	at := h.Path(p)
	switch {
	case at.Type == facts.Absent:
		return nil, []plan.Finding{{
			Code: "settings-missing", Severity: plan.Problem, Task: id, Holds: true,
			Text: p + " does not exist",
			Hint: "install libvirt's daemon on the host (package " + packageOfLibvirt + ")",
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
	edits, found := s.edit(h, file)
	found = append(found, s.otherPaths(p, file)...)
	if s.names != nil {
		found = append(found, migrationHost(id, file, s.names)...)
	}
	meta := plan.Meta{Task: id, Wave: plan.WaveIdentity}
	u := layoutOf(h).reads(p)
	if missing(h.Units[u]) {
		// As where systemd does not run: there is nothing to restart.
		u = ""
	}
	var ops []plan.Op
	if len(edits) > 0 {
		meta.Reason = "settings differ"
		after := plan.StateOf(at)
		after.Digest = plan.Digest(file.Bytes())
		ops = append(ops, plan.WriteFile{Meta: meta, Path: p, Before: plan.StateOf(at), After: after, Edits: edits})
	} else if u != "" && !loaded(h, u, "settings:"+p, s.digest(h), p) {
		meta.Reason = "the daemon started before the file was changed"
	}
	if meta.Reason != "" && u != "" {
		ops = append(ops, plan.Activate{Meta: meta, Unit: u, How: plan.Restart, Loads: []plan.Load{{Item: "settings:" + p, Digest: s.digest(h)}}})
	}
	return ops, found
}

// otherPaths finds identities at other paths than the default ones: libvirt
// reloads the default files only, whatever these keys say (verified.md §3).
func (s *settings) otherPaths(p string, f *conffile.File) []plan.Finding {
	if p != libvirtdConf && p != virtproxydConf {
		return nil
	}
	defaults := map[string]string{"ca_file": libvirtTrust, "cert_file": libvirtDir + "/servercert.pem", "key_file": libvirtDir + "/private/serverkey.pem"}
	var out []plan.Finding
	for _, k := range []string{"ca_file", "cert_file", "key_file"} {
		v, ok := f.Get(k)
		if text, _ := v.Str(); ok && text != defaults[k] {
			out = append(out, plan.Finding{
				Code: "other-paths", Severity: plan.Problem, Task: s.ID(), Holds: true,
				Text: fmt.Sprintf("%s sets %s = %s: libvirt starts with that file and a reload would silently switch to %s", p, k, v, defaults[k]),
				Hint: "comment the line out on the host, then plan again",
			})
		}
	}
	return out
}

// edit makes the file what the policy wants.
func (s *settings) edit(h *facts.Host, file *conffile.File) (edits []plan.Edit, found []plan.Finding) {
	for _, v := range s.values(h) {
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
func (s *settings) after(h *facts.Host, content []byte) []byte {
	file, err := conffile.Parse(content)
	if err != nil {
		return nil
	}
	if _, found := s.edit(h, file); len(found) > 0 {
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
