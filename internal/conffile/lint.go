package conffile

import (
	"fmt"
	"net/netip"
	"strings"
)

// A Note is something that a file says and that its owner should know.
type Note struct {
	// Code names the kind of note and does not change between releases.
	Code string
	Key  string
	Line int // of the assignment meant, from 1
	// Danger tells that the daemon will not start, or that it lets in whom it should not.
	Danger bool
	// Text is one line. It holds no text of the file but names of keys.
	Text string
}

// A rule looks at a whole file, whose values it may only read.
type rule func(f *File) []Note

// maxUnknown bounds the notes, and the search for near names, that a hostile file can cause.
const maxUnknown = 20

// Lint judges the active assignments of f: keys that do not exist, values that
// libvirt refuses, keys assigned twice, and settings that open what TLS should close.
// It sees this file only: what a default gives, and which units listen, it cannot know.
// Of the keys that do not exist it names the first 20.
func (s *Schema) Lint(f *File) []Note {
	var notes []Note
	unknown := 0
	for _, key := range f.Keys() {
		as := f.Assignments(key)
		k, known := s.Lookup(key)
		if !known {
			if unknown++; unknown > maxUnknown {
				continue
			}
			notes = append(notes, Note{"unknown-key", key, as[0].Line, false, s.unknown(key).Error()})
		} else if k.accepts(as[0].Value) != nil {
			notes = append(notes, Note{"bad-value", key, as[0].Line, true, fmt.Sprintf("%s does not hold %s that libvirt accepts: the daemon will not start", key, k.Type)})
		}
		if len(as) > 1 {
			notes = append(notes, Note{"duplicate-key", key, as[1].Line, false,
				fmt.Sprintf("%s is assigned again, which libvirt ignores (line %d counts) and vdsm-tool fails on", key, as[0].Line)})
		}
	}
	for _, r := range s.rules {
		notes = append(notes, r(f)...)
	}
	return notes
}

// note gives a note on the first assignment of key.
func note(f *File, code, key string, danger bool, text string) []Note {
	return []Note{{code, key, f.Assignments(key)[0].Line, danger, text}}
}

// when makes the rule for one key and one value.
func when(key string, v Value, code string, danger bool, text string) rule {
	return func(f *File) []Note {
		if got, ok := f.Get(key); ok && got.Equal(v) {
			return note(f, code, key, danger, text)
		}
		return nil
	}
}

var daemonRules = []rule{
	when("sasl_allowed_username_list", List(), "empty-allow-list", true, "sasl_allowed_username_list is empty: no user of SASL can connect"),
}

var networkRules = append([]rule{
	when("tls_no_verify_certificate", Bool(true), "tls-no-verify", true, "tls_no_verify_certificate = 1: every client is let in as root, with any certificate or none"),
	when("tls_no_sanity_certificate", Bool(true), "tls-no-sanity", false, "tls_no_sanity_certificate = 1: the daemon starts with a certificate that no peer will accept"),
	when("tls_allowed_dn_list", List(), "empty-allow-list", true, "tls_allowed_dn_list is empty: no client can connect"),
	when("auth_tcp", String("none"), "tcp-no-auth", true, "auth_tcp = \"none\": whoever reaches the TCP port is root"),
	when("listen_tcp", Bool(true), "tcp-listener", false, "listen_tcp = 1: a listener without TLS"),
	tlsFiles,
}, daemonRules...)

var qemuRules = []rule{
	when("default_tls_x509_verify", Bool(false), "qemu-no-verify", true, "default_tls_x509_verify = 0: clients without a certificate are let in"),
	when("migrate_tls_x509_verify", Bool(false), "qemu-no-verify", true, "migrate_tls_x509_verify = 0: a migration is accepted from anyone"),
	when("backup_tls_x509_verify", Bool(false), "qemu-no-verify", true, "backup_tls_x509_verify = 0: anyone may read a backup"),
	when("chardev_tls_x509_verify", Bool(false), "qemu-no-verify", true, "chardev_tls_x509_verify = 0: anyone may connect to a guest's character devices"),
	when("security_driver", String("none"), "unconfined-guests", false, "security_driver = \"none\": neither SELinux nor AppArmor holds guests"),
	when("allow_disk_format_probing", Bool(true), "bad-value", true, "allow_disk_format_probing = 1: the daemon will not start, libvirt dropped it"),
	when("vxhs_tls", Bool(true), "obsolete-key", false, "vxhs_tls is ignored: QEMU 5.2 dropped VxHS"),
	openDisplay("vnc", "vnc_tls"), openDisplay("spice", "spice_tls"),
	localMigration("migration_host"), localMigration("migration_address"),
	unreadableDirs,
}

// defaultTLSPaths are what the daemons load when nothing is set, and all that
// virt-admin server-update-tls ever loads.
var defaultTLSPaths = map[string]string{
	"ca_file":   "/etc/pki/CA/cacert.pem",
	"cert_file": "/etc/pki/libvirt/servercert.pem",
	"key_file":  "/etc/pki/libvirt/private/serverkey.pem",
}

func tlsFiles(f *File) []Note {
	has := func(keys ...string) string {
		for _, k := range keys {
			if _, ok := f.Get(k); ok {
				return k
			}
		}
		return ""
	}
	ca, cert, key := has("ca_file"), has("cert_file", "cert_files"), has("key_file", "key_files")
	single, several := has("cert_file", "key_file"), has("cert_files", "key_files")
	if single != "" && several != "" {
		return note(f, "mixed-tls-files", several, true, several+" and "+single+" exclude each other: the daemon will not start")
	}
	n := 0
	first := ""
	for _, k := range []string{ca, cert, key} {
		if k != "" {
			n++
			if first == "" {
				first = k
			}
		}
	}
	switch {
	case n == 1 || n == 2:
		return note(f, "partial-tls-files", first, true, first+" is set, but not all three of the CA, certificate and key files: the daemon will not start")
	case n == 0 && has("crl_file") != "":
		return note(f, "crl-ignored", "crl_file", true, "crl_file is ignored, because ca_file, cert_file and key_file are not set: revoked clients are let in unless /etc/pki/CA/cacrl.pem says otherwise")
	case n == 3 && several != "":
		return note(f, "own-tls-paths", several, false, "virt-admin server-update-tls loads the default files, not those of "+several)
	}
	for _, k := range []string{"ca_file", "cert_file", "key_file"} {
		if v, ok := f.Get(k); ok && !v.Equal(String(defaultTLSPaths[k])) {
			return note(f, "own-tls-paths", k, false, k+" is not the default path, and virt-admin server-update-tls loads only that one")
		}
	}
	return nil
}

// openDisplay judges an address for displays that is not the host itself.
func openDisplay(display, tlsKey string) rule {
	return func(f *File) []Note {
		v, _ := f.Get(display + "_listen")
		s, ok := v.Str()
		tls, _ := f.Get(tlsKey)
		if !ok || s == "" || isLocal(s) || tls.Equal(Bool(true)) {
			return nil
		}
		return note(f, "open-display", display+"_listen", true, display+"_listen opens displays to the network, and "+tlsKey+" is not 1")
	}
}

func localMigration(key string) rule {
	return func(f *File) []Note {
		v, _ := f.Get(key)
		if s, ok := v.Str(); !ok || !isLocal(s) {
			return nil
		}
		return note(f, "bad-value", key, true, key+" is the host itself: the daemon will not start")
	}
}

func isLocal(host string) bool {
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return strings.HasPrefix(host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}

// readableDirs are all that the AppArmor profile of libvirt's guests lets QEMU read.
var readableDirs = []string{"/etc/pki/CA", "/etc/pki/libvirt", "/etc/pki/qemu", "/etc/pki/libvirt-vnc", "/etc/pki/libvirt-spice"}

func unreadableDirs(f *File) []Note {
	var notes []Note
next:
	for _, key := range f.Keys() {
		v, _ := f.Get(key)
		dir, ok := v.Str()
		if !ok || !strings.HasSuffix(key, "_tls_x509_cert_dir") || strings.HasPrefix(key, "vxhs_") {
			continue
		}
		for _, d := range readableDirs {
			if strings.TrimRight(dir, "/") == d {
				continue next
			}
		}
		notes = append(notes, note(f, "apparmor-dir", key, false, key+" is a directory that QEMU cannot read where AppArmor confines it")...)
	}
	return notes
}
