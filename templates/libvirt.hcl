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

  trust "/etc/pki/CA/cacert.pem" {
    authorities = [authority.libvirt]
    crl         = "/etc/pki/CA/cacrl.pem"
    foreign     = "keep"
  }

  # Both are libvirt's defaults. They are managed because the other value of
  # either opens the daemon to clients without a certificate.
  settings "/etc/libvirt/libvirtd.conf" {
    listen_tcp                = false
    tls_no_verify_certificate = false
  }

  listener "libvirt" {
    port = 16514
    mode = "auto"
  }

  rollout {
    canary          = 1
    batch           = "25%"
    restarts        = 1
    max_failures    = 0
    max_unreachable = "10%"
  }
}
