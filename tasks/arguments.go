package tasks

import (
	"slices"
	"strings"

	"github.com/virtrust/virtrust/internal/conffile"
	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/plan"
)

// arguments is the listener of a libvirtd without socket units: it listens
// itself when it is started with --listen, and must not leave when it is idle,
// because nothing would start it again. The way in which the host runs it is
// kept: nothing here unmasks a socket.
func (l *listener) arguments(h *facts.Host) ([]plan.Op, []plan.Finding) {
	service := h.Units[libvirtdService]
	if off := l.switchedOff(h); off != "" {
		return nil, []plan.Finding{l.problem("listener-off", "take the setting out of the policy, or give the listener that port", "%s", off)}
	}
	if s := h.Units[libvirtdSocket]; !masked(s) && !missing(s) {
		return nil, []plan.Finding{l.bothWays("libvirtd runs with --listen")}
	}
	var ops []plan.Op
	meta := plan.Meta{Task: l.ID(), Wave: plan.WaveListen}
	if !slices.ContainsFunc(service.Command, isListen) {
		file, name, ok := variableOf(h, libvirtdService)
		if !ok {
			return nil, []plan.Finding{l.problem("no-arguments-file", "put EnvironmentFile=-/etc/default/libvirtd and $LIBVIRTD_ARGS into a drop-in of the unit, or use libvirtd's socket units",
				"libvirtd's socket units are masked here, and %s takes no arguments from a file below /etc", libvirtdService)}
		}
		write, why := writeArguments(h, file, name)
		if why != "" {
			return nil, []plan.Finding{l.problem("arguments-unreadable", "mend "+name+" there, then plan again", "%s: %s", file, why)}
		}
		if write != nil {
			write.Meta = meta
			write.Reason = "libvirtd is not told to listen"
			ops = append(ops, *write)
		}
	}
	if service.File != "enabled" && service.File != "enabled-runtime" || service.MainPID == 0 {
		m := meta
		m.Reason = "its sockets are masked: nothing else would start it"
		ops = append(ops, plan.SetUnit{Meta: m, Unit: libvirtdService, Enabled: true, Active: true})
	}
	args := h.Processes[service.MainPID]
	if len(ops) > 0 || service.MainPID != 0 && (!slices.ContainsFunc(args, isListen) || slices.ContainsFunc(args, isTimeout)) {
		m := meta
		m.Reason = "libvirtd runs without --listen"
		if slices.ContainsFunc(args, isListen) {
			m.Reason = "libvirtd would leave when it is idle"
		}
		ops = append(ops, plan.Activate{Meta: m, Unit: libvirtdService, How: plan.Restart})
	}
	return ops, nil
}

// switchedOff says why libvirtd would not listen on the policy's port with the
// settings that the policy gives it.
func (l *listener) switchedOff(h *facts.Host) string {
	content, ok := h.Content(libvirtdConf)
	if !ok || l.conf == nil {
		return ""
	}
	file, err := conffile.Parse(l.conf.after(h, content))
	if err != nil {
		return ""
	}
	if v, set := file.Get("listen_tls"); set {
		if n, _ := v.Int(); n == 0 {
			return "the policy sets listen_tls = 0 in " + libvirtdConf + " and has a listener"
		}
	}
	if v, set := file.Get("tls_port"); set {
		if port, _ := v.Str(); port != portText(l.want.Port) {
			return "the policy sets tls_port = " + v.String() + " in " + libvirtdConf + " and its listener has port " + portText(l.want.Port)
		}
	}
	return ""
}

// variableOf finds where a unit's program gets further arguments from: the
// variable in its command line, and the last file below /etc that sets it or
// could. Debian has LIBVIRTD_ARGS (libvirtd_opts in old releases) in
// /etc/default, EL and SUSE in /etc/sysconfig; the unit says which.
func variableOf(h *facts.Host, service string) (file, name string, ok bool) {
	u := h.Units[service]
	for _, a := range u.Command {
		if v, is := strings.CutPrefix(a, "$"); is && !strings.HasPrefix(v, "{") && v != "" {
			name = v
			break
		}
	}
	for _, f := range u.EnvironmentFiles {
		if !strings.HasPrefix(f, "/etc/") {
			continue
		}
		if _, _, set := environmentValue(h, f, name); set || file == "" || h.Path(file).Type == facts.Absent {
			file = f
		}
	}
	return file, name, name != "" && file != ""
}

func environmentValue(h *facts.Host, file, name string) (value string, plain, set bool) {
	content, _ := h.Content(file)
	e, err := conffile.ParseEnvironment(content)
	if err != nil {
		return "", false, false
	}
	return e.Get(name)
}

// argumentsIn are the words that the variable has, from the file or else from
// the unit itself; plain is false for quotes inside.
func argumentsIn(h *facts.Host, service, file, name string) (words []string, plain bool) {
	value, plain, set := environmentValue(h, file, name)
	if !set {
		plain = true
		for _, e := range h.Units[service].Environment {
			if v, is := strings.CutPrefix(e, name+"="); is {
				value = v
			}
		}
	}
	return strings.Fields(value), plain
}

// writeArguments gives the variable --listen and takes --timeout from it; nil
// where it is so.
func writeArguments(h *facts.Host, file, name string) (*plan.WriteFile, string) {
	at := h.Path(file)
	content, read := h.Content(file)
	if at.Type != facts.Absent && (at.Type != facts.Regular || !read) {
		return nil, "it is not a regular file that can be read"
	}
	words, plain := argumentsIn(h, libvirtdService, file, name)
	if !plain {
		return nil, "the value of " + name + " has quotes or backslashes inside"
	}
	e, err := conffile.ParseEnvironment(content)
	if err != nil {
		return nil, err.Error()
	}
	old, _, set := e.Get(name)
	want := []string{}
	for i := 0; i < len(words); i++ {
		switch {
		case words[i] == "--timeout" || words[i] == "-t":
			i++ // its seconds
		case isTimeout(words[i]), isListen(words[i]):
		default:
			want = append(want, words[i])
		}
	}
	want = append(want, "--listen")
	value := strings.Join(want, " ")
	if set && slices.ContainsFunc(words, isListen) && !slices.ContainsFunc(words, isTimeout) {
		return nil, ""
	}
	if err := e.Set(name, value); err != nil {
		return nil, err.Error()
	}
	edit := plan.Edit{Key: name, New: value}
	if set {
		edit.Old = old
	}
	after := plan.StateOf(at)
	if at.Type == facts.Absent {
		after = plan.State{Type: facts.Regular, Mode: 0o644, Owner: "root", Group: "root"}
	}
	after.Digest = plan.Digest(e.Bytes())
	return &plan.WriteFile{Path: file, Before: plan.StateOf(at), After: after, Edits: []plan.Edit{edit}, Syntax: plan.SyntaxEnvironment}, ""
}

func isListen(a string) bool { return a == "--listen" || a == "-l" }

func isTimeout(a string) bool {
	return a == "--timeout" || a == "-t" || strings.HasPrefix(a, "--timeout=")
}
