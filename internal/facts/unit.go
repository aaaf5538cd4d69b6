package facts

import (
	"strings"
	"time"
)

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
