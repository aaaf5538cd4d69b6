authority "libvirt" {
  organization = "Example"
}

policy "standard" {
  template = "libvirt"

  settings "/etc/libvirt/libvirtd.conf" {
    tls_port                  = 16514
    listen_tpc                = false
    max_clients               = "many"
    auth_tls                  = ["none"]
    tls_allowed_dn_list       = []
    tls_no_verify_certificate = true
    cert_file                 = "/etc/ssl/cert.pem"
    log_level                 = policy.standard
  }
  settings "/etc/libvirt/virtproxyd.conf" {
    ca_file = "/etc/pki/CA/cacert.pem"
  }
  settings "/etc/libvirt/qemu.conf" {
    migrate_tls_force = true
  }
  settings "/etc/foo.conf" {
    anything = 1
  }
  settings "relative.conf" {
  }
}
