package conffile

// Keys of the daemons' files, from the files and lenses that libvirt 9.0 ships and
// src/remote/libvirtd.aug.in of libvirt 11.10; types from the getters of
// src/remote/remote_daemon_config.c.

var authMethods = []string{"none", "sasl", "polkit"}

// networkKeys are read only by the daemons that listen on the network: libvirtd and virtproxyd.
var networkKeys = []Key{
	{Name: "listen_tls", Type: TypeBool, Note: "not honoured under systemd socket activation; libvirtd also needs --listen; the commented example is not libvirtd's default, 1, but virtproxyd's is 0 whatever its file says"},
	{Name: "listen_tcp", Type: TypeBool, Note: "clear text without SASL encryption; not honoured under systemd socket activation"},
	{Name: "tls_port", Type: TypeString, Note: "port or service name, in quotes; under socket activation the unit's ListenStream decides"},
	{Name: "tcp_port", Type: TypeString, Note: "port or service name, in quotes; under socket activation the unit's ListenStream decides"},
	{Name: "listen_addr", Type: TypeString, Note: "not honoured under socket activation; an address that is not up yet at boot stops the daemon"},
	{Name: "auth_tcp", Type: TypeString, OneOf: authMethods, Note: "\"none\" lets anyone who reaches the port be root"},
	{Name: "auth_tls", Type: TypeString, OneOf: authMethods, Note: "\"sasl\" asks for SASL on top of the certificate"},
	{Name: "tcp_min_ssf", Type: TypeUint, Min: 56, Note: "least strength of SASL's encryption on TCP, in bits"},
	{Name: "key_file", Type: TypeString, Note: "set ca_file, cert_file and key_file all or none; virt-admin server-update-tls loads only the default paths"},
	{Name: "cert_file", Type: TypeString, Note: "set ca_file, cert_file and key_file all or none; virt-admin server-update-tls loads only the default paths"},
	{Name: "key_files", Type: TypeList, Since: "11.10.0", Note: "several identities; excludes key_file and cert_file"},
	{Name: "cert_files", Type: TypeList, Since: "11.10.0", Note: "several identities; excludes key_file and cert_file"},
	{Name: "ca_file", Type: TypeString, Note: "set ca_file, cert_file and key_file all or none; virt-admin server-update-tls loads only the default paths"},
	{Name: "crl_file", Type: TypeString, Note: "ignored unless ca_file, cert_file and key_file are set; else /etc/pki/CA/cacrl.pem is read if it exists"},
	{Name: "tls_no_sanity_certificate", Type: TypeBool, Note: "1 starts the daemon with a certificate that no peer will accept"},
	{Name: "tls_no_verify_certificate", Type: TypeBool, Note: "1 accepts every client, with any certificate or none"},
	{Name: "tls_allowed_dn_list", Type: TypeList, Note: "unset allows every subject that the CA signed, the empty list nobody; * is a wildcard"},
	{Name: "tls_priority", Type: TypeString, Note: "GnuTLS priority string; unset is the system's policy"},
}

// daemonKeys are read by every daemon that serves libvirt's API.
var daemonKeys = []Key{
	{Name: "unix_sock_group", Type: TypeString, Note: "not honoured under systemd socket activation"},
	{Name: "unix_sock_ro_perms", Type: TypeString, Note: "octal, in quotes; not honoured under systemd socket activation"},
	{Name: "unix_sock_rw_perms", Type: TypeString, Note: "octal, in quotes; not honoured under systemd socket activation"},
	{Name: "unix_sock_admin_perms", Type: TypeString, Note: "octal, in quotes; not honoured under systemd socket activation"},
	{Name: "unix_sock_dir", Type: TypeString, Note: "not honoured under systemd socket activation"},
	{Name: "auth_unix_ro", Type: TypeString, OneOf: authMethods},
	{Name: "auth_unix_rw", Type: TypeString, OneOf: authMethods, Note: "who may write to this socket is root; oVirt sets \"sasl\""},
	{Name: "access_drivers", Type: TypeList, Note: "[ \"polkit\" ] asks polkit for each call; without it a client is root's equal"},
	{Name: "sasl_allowed_username_list", Type: TypeList, Note: "unset allows every user that SASL knows, the empty list nobody"},
	{Name: "max_clients", Type: TypeUint},
	{Name: "max_queued_clients", Type: TypeUint},
	{Name: "max_anonymous_clients", Type: TypeUint, Note: "clients that have not yet authenticated; 0 switches the limit off"},
	{Name: "min_workers", Type: TypeUint},
	{Name: "max_workers", Type: TypeUint, Min: 1},
	{Name: "prio_workers", Type: TypeUint},
	{Name: "max_client_requests", Type: TypeUint},
	{Name: "admin_min_workers", Type: TypeUint},
	{Name: "admin_max_workers", Type: TypeUint},
	{Name: "admin_max_clients", Type: TypeUint},
	{Name: "admin_max_queued_clients", Type: TypeUint},
	{Name: "admin_max_client_requests", Type: TypeUint},
	{Name: "log_level", Type: TypeUint, Note: "1 debug, 2 information, 3 warnings, 4 errors"},
	{Name: "log_filters", Type: TypeString},
	{Name: "log_outputs", Type: TypeString},
	{Name: "audit_level", Type: TypeUint, Note: "0 off, 1 if the host audits, 2 required"},
	{Name: "audit_logging", Type: TypeBool},
	{Name: "host_uuid", Type: TypeString, Note: "must differ on every host, or migration between them is refused"},
	{Name: "host_uuid_source", Type: TypeString, OneOf: []string{"smbios", "machine-id"}},
	{Name: "keepalive_interval", Type: TypeInt, Note: "seconds; -1 switches keepalive off"},
	{Name: "keepalive_count", Type: TypeUint},
	{Name: "keepalive_required", Type: TypeBool, Note: "ignored: libvirt does not read it"},
	{Name: "admin_keepalive_required", Type: TypeBool, Note: "ignored: libvirt does not read it"},
	{Name: "admin_keepalive_interval", Type: TypeInt, Note: "seconds; -1 switches keepalive off"},
	{Name: "admin_keepalive_count", Type: TypeUint},
	{Name: "ovs_timeout", Type: TypeUint, Note: "seconds for a call of Open vSwitch"},
}

// logKeys begin the files of virtlogd and virtlockd.
var logKeys = []Key{
	{Name: "log_level", Type: TypeUint, Note: "1 debug, 2 information, 3 warnings, 4 errors"},
	{Name: "log_filters", Type: TypeString},
	{Name: "log_outputs", Type: TypeString},
	{Name: "max_clients", Type: TypeUint},
	{Name: "admin_max_clients", Type: TypeUint},
}

var virtlogdKeys = []Key{
	{Name: "max_size", Type: TypeUint, Note: "bytes of a log file before it is rolled over"},
	{Name: "max_backups", Type: TypeUint},
	{Name: "max_age_days", Type: TypeUint, Note: "0 keeps old logs for ever"},
}

var clientKeys = []Key{
	{Name: "uri_aliases", Type: TypeList, Note: "items of the form name=URI"},
	{Name: "uri_default", Type: TypeString},
}

var lockdKeys = []Key{
	{Name: "auto_disk_leases", Type: TypeBool},
	{Name: "require_lease_for_disks", Type: TypeBool},
	{Name: "file_lockspace_dir", Type: TypeString},
	{Name: "lvm_lockspace_dir", Type: TypeString},
	{Name: "scsi_lockspace_dir", Type: TypeString},
}

var networkDriverKeys = []Key{
	{Name: "firewall_backend", Type: TypeString, Note: "which firewall libvirt writes its own rules into"},
}

var secretDriverKeys = []Key{
	{Name: "secrets_encryption_key", Type: TypeString, Note: "path of the file with the key"},
	{Name: "encrypt_data", Type: TypeBool},
}

var schemas = func() map[string]*Schema {
	m := map[string]*Schema{}
	add := func(name string, rules []rule, groups ...[]Key) {
		s := &Schema{Path: ConfDir + "/" + name, index: map[string]int{}, rules: rules}
		for _, g := range groups {
			for _, k := range g {
				s.index[k.Name] = len(s.keys)
				s.keys = append(s.keys, k)
			}
		}
		m[s.Path] = s
	}
	add("libvirtd.conf", networkRules, networkKeys, daemonKeys)
	add("virtproxyd.conf", networkRules, networkKeys, daemonKeys)
	for _, d := range []string{"virtqemud", "virtnetworkd", "virtnodedevd", "virtstoraged", "virtsecretd", "virtinterfaced", "virtnwfilterd"} {
		add(d+".conf", daemonRules, daemonKeys)
	}
	add("qemu.conf", qemuRules, qemuTLSKeys, qemuKeys)
	add("virtlogd.conf", nil, logKeys, virtlogdKeys)
	add("virtlockd.conf", nil, logKeys)
	add("qemu-lockd.conf", nil, lockdKeys)
	add("network.conf", nil, networkDriverKeys)
	add("secret.conf", nil, secretDriverKeys)
	add("libvirt.conf", nil, clientKeys)
	add("libvirt-admin.conf", nil, clientKeys)
	return m
}()
