# libvirt's own TLS port: both ends of a connection show a certificate of one
# authority. The paths are libvirt's defaults, because the reload that needs
# no restart (virt-admin server-update-tls) reads only those.
policy "libvirt" {
  certificate "libvirt-server" {
    authority = authority.libvirt
    usages    = ["server"]
    lifetime  = "90d"
    key_usage = "compatible"

    key {
      algorithm = "ecdsa-p256"
    }

    install {
      directory = "/etc/pki/libvirt"
      cert      = "servercert.pem"
      key       = "private/serverkey.pem"
      owner     = "root"
      group     = "root"
      key_mode  = "0600"
    }
  }

  certificate "libvirt-client" {
    authority = authority.libvirt
    usages    = ["client"]
    lifetime  = "90d"
    key_usage = "compatible"

    key {
      algorithm = "ecdsa-p256"
    }

    install {
      directory = "/etc/pki/libvirt"
      cert      = "clientcert.pem"
      key       = "private/clientkey.pem"
      owner     = "root"
      group     = "root"
      key_mode  = "0600"
    }
  }

  # QEMU's own identity, for migration: both ends show it. QEMU processes can
  # read it, so libvirtd must not accept it: another authority signs it. QEMU
  # finds server and client pair by name; they are one pair with both usages.
  certificate "qemu" {
    needed_for = "migration"
    authority  = authority.qemu
    usages     = ["server", "client"]
    lifetime   = "90d"
    key_usage  = "compatible"

    key {
      algorithm = "ecdsa-p256"
    }

    install {
      directory = "/etc/pki/qemu"
      cert      = "server-cert.pem"
      key       = "server-key.pem"
      aliases   = { "client-cert.pem" = "client-key.pem" }
      owner     = "@qemu" # the account that QEMU runs as on that host
    }
  }

  # What the VNC consoles of guests show, where a policy has listener "vnc". Its
  # authority is its own: people's viewers trust it, hosts do not.
  certificate "vnc" {
    needed_for = "vnc"
    authority  = authority.display
    usages     = ["server"]
    lifetime   = "90d"
    key_usage  = "compatible"

    key {
      algorithm = "ecdsa-p256"
    }

    install {
      directory = "/etc/pki/libvirt-vnc"
      cert      = "server-cert.pem"
      key       = "server-key.pem"
      owner     = "@qemu"
    }
  }

  trust "/etc/pki/CA/cacert.pem" {
    authorities = [authority.libvirt]
    foreign     = "keep"
    crl         = "/etc/pki/CA/cacrl.pem" # made when something is revoked
  }

  trust "/etc/pki/qemu/ca-cert.pem" {
    needed_for  = "migration"
    authorities = [authority.qemu]
    foreign     = "keep"
    crl         = "/etc/pki/qemu/ca-crl.pem"
  }

  trust "/etc/pki/libvirt-vnc/ca-cert.pem" {
    needed_for  = "vnc"
    authorities = [authority.display]
    foreign     = "keep"
  }

  # Both are libvirt's defaults. They are managed because the other value of
  # either opens the daemon to clients without a certificate.
  settings "/etc/libvirt/libvirtd.conf" {
    listen_tcp                = false
    tls_no_verify_certificate = false
  }

  # Both are written, although they are defaults, because stray directories
  # and old versions have others. migration = "required" adds the setting that
  # refuses a migration without TLS.
  settings "/etc/libvirt/qemu.conf" {
    needed_for                = "migration"
    migrate_tls_x509_cert_dir = "/etc/pki/qemu"
    migrate_tls_x509_verify   = true
  }

  listener "libvirt" {
    port = 16514
    mode = "auto"
  }

  # listener "vnc" {} in a policy encrypts the VNC consoles of guests: it needs
  # the authority display and sets vnc_tls and vnc_tls_x509_cert_dir in
  # qemu.conf. Where consoles listen (vnc_listen) stays as it is.

  # In the firewall that owns the host, if one does: the listener's port is open
  # to the networks that the host is on, or to the other hosts where it is on
  # none. Without the listener nothing is opened.
  firewall {
    backend = "auto"

    allow "libvirt-tls" {
    }
  }

  rollout {
    canary          = 1
    batch           = "25%"
    restarts        = 1
    max_failures    = 0
    max_unreachable = "10%"
  }
}
