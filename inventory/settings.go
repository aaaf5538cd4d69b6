package inventory

import (
	"path"
	"strings"

	"github.com/zclconf/go-cty/cty"

	"github.com/virtrust/virtrust/internal/conffile"
)

func (l *loader) settings(r *reader, places map[string]*node) Settings {
	v := Settings{Path: r.n.label(), Source: sourceRange(r.n.rng)}
	if problem := checkPath(v.Path, true); problem != "" {
		r.bad = true
		l.errorAt(r.n.labelRange(), "Unfit path", problem)
		return v
	}
	l.place(r, places, v.Path, r.n, r.n.labelRange())
	neededFor, only := r.neededFor(), r.n.attrs["needed_for"]
	schema, known := conffile.Known(v.Path)
	if !known {
		l.warnAt(r.n.labelRange(), "Unknown configuration file", "Its keys and the types of their values cannot be checked. It is edited as a file of libvirt's format.")
	}
	for _, key := range sortedKeys(r.n.attrs) {
		if key == "enabled" || key == "needed_for" {
			continue
		}
		a := r.n.attrs[key]
		if known {
			if _, ok := schema.Lookup(key); !ok {
				detail := path.Base(v.Path) + " has no key of that name."
				if s := schema.Suggest(key); s != "" {
					detail += " Did you mean " + s + "?"
				}
				r.bad = true
				l.errorAt(a.nrng, "Unknown setting "+key, detail)
				continue
			}
		}
		i, ok := r.value(key)
		if !ok {
			continue
		}
		value, ok := r.setting(i)
		if !ok {
			continue
		}
		if known {
			if err := schema.Check(key, value); err != nil {
				r.problem(i, "Unfit value of "+key, err.Error()+".")
				continue
			}
		}
		if r.refused(v.Path, key, value, i) {
			continue
		}
		s := Setting{Key: key, Value: value, Text: value.String(), Source: sourceRange(a.rng)}
		// What a policy adds to a template's block is its own.
		if only != nil && only.scope.template == a.scope.template {
			s.NeededFor = neededFor
		}
		v.Values = append(v.Values, s)
	}
	l.checkTLSFiles(r, v)
	return v
}

// setting turns a value into one of libvirt's file format.
func (r *reader) setting(i item) (conffile.Value, bool) {
	var out conffile.Value
	ty := i.v.Type()
	if x, is := asRef(i.v); is {
		r.problem(i, "Unexpected reference", "A setting is a text, a whole number, true or false, or a list of texts, and this is "+x.String()+".")
		return out, false
	}
	switch {
	case ty == cty.Bool:
		out = conffile.Bool(i.v.True())
	case ty == cty.Number:
		n, acc := i.v.AsBigFloat().Int64()
		if acc != 0 {
			r.problem(i, "Unfit number", "A setting's number is whole.")
			return out, false
		}
		out = conffile.Int(n)
	case ty == cty.String:
		s, ok := r.asText(i)
		if !ok {
			return out, false
		}
		out = conffile.String(s)
	case ty.IsTupleType() || ty.IsListType() || ty.IsSetType():
		var texts []string
		for _, e := range i.v.AsValueSlice() {
			s, ok := r.asText(i.part(e))
			if !ok {
				return out, false
			}
			texts = append(texts, s)
		}
		out = conffile.List(texts...)
	default:
		r.problem(i, "Wrong type of value", "A setting is a text, a whole number, true or false, or a list of texts.")
		return out, false
	}
	if _, err := out.Syntax(); err != nil {
		r.problem(i, "Unfit value", sentence(err.Error()))
		return out, false
	}
	return out, true
}

// libvirt's built-in paths. virt-admin server-update-tls loads these and no
// others, whatever the configuration file says.
var defaultTLSFiles = map[string]string{
	"ca_file":   "/etc/pki/CA/cacert.pem",
	"cert_file": "/etc/pki/libvirt/servercert.pem",
	"key_file":  "/etc/pki/libvirt/private/serverkey.pem",
}

// servesTLS tells whether a file configures the daemon that owns libvirt's
// network ports.
func servesTLS(file string) bool {
	return file == "/etc/libvirt/libvirtd.conf" || file == "/etc/libvirt/virtproxyd.conf"
}

// refused reports settings that would lock everyone out or break renewal.
func (r *reader) refused(file, key string, v conffile.Value, i item) bool {
	if key == "migrate_tls_force" && path.Base(file) == "qemu.conf" {
		r.problem(i, "Setting that follows from migration", "It may be set only when every member has proved its credentials. Leave it out, and write migration = \"required\" on the host, its cluster or the fleet.")
		return true
	}
	if !servesTLS(file) {
		return false
	}
	items, isList := v.Strings()
	n, _ := v.Int()
	switch {
	case defaultTLSFiles[key] != "" && !v.Equal(conffile.String(defaultTLSFiles[key])):
		r.problem(i, "Path that breaks renewal", "A reload of libvirt's TLS files loads the default paths only and answers success for any other, so the daemon would go on with the wrong files. Leave "+key+" out and let the certificate be installed at "+defaultTLSFiles[key]+".")
	case key == "cert_files" || key == "key_files":
		r.problem(i, "Path that breaks renewal", "A reload of libvirt's TLS files loads the default paths only. Leave "+key+" out.")
	case strings.HasSuffix(key, "_list") && isList && len(items) == 0:
		r.problem(i, "List that locks everyone out", "An empty list lets nobody connect. Use null to leave "+key+" alone.")
	case key == "tls_no_verify_certificate" && n == 1:
		r.problem(i, "Verification switched off", "The daemon would accept every client, with any certificate, as root. Leave "+key+" out or set it to false.")
	default:
		return false
	}
	return true
}

// checkTLSFiles refuses one or two of the three paths: the daemon does not
// start then.
func (l *loader) checkTLSFiles(r *reader, v Settings) {
	if r.bad || !servesTLS(v.Path) {
		return
	}
	var set []string
	for _, s := range v.Values {
		if defaultTLSFiles[s.Key] != "" {
			set = append(set, s.Key)
		}
	}
	if len(set) == 1 || len(set) == 2 {
		r.bad = true
		l.errorAt(r.n.attrs[set[0]].nrng, "Incomplete paths", "libvirt takes ca_file, cert_file and key_file together or not at all. Leave all three out.")
	}
}
