fleet {
  migration = "off"
}

ledger {
  path = "state/ledger.db"
}

ssh {
  port        = 2222
  known_hosts = "known_hosts"
  identity    = ["~/.ssh/id_ed25519", "keys/deploy"]
}

authority "libvirt" {
  organization    = "Example"
  passphrase_from = "env:CA_PASSPHRASE"
  lifetime        = "1825d"
  key_directory   = "/media/ca"
}

authority "qemu" {
  organization = "Example"
}

policy "base" {
  template = "libvirt"

  settings "/etc/libvirt/libvirtd.conf" {
    max_clients = 500
    listen_tcp  = null
  }
  rollout {
    canary = 2
    batch  = 5
  }
}

policy "derived" {
  extends = policy.base

  certificate "libvirt-server" {
    lifetime = "30d"
    install {
      group    = "libvirt"
      key_mode = "0640"
    }
  }
  certificate "libvirt-client" {
    enabled = false
  }
  certificate "qemu" {
    authority = authority.qemu
    usages    = ["server", "client"]
    lifetime  = "12h"
    key {
      algorithm = "rsa-3072"
    }
    install {
      directory = "/etc/pki/qemu"
      cert      = "server-cert.pem"
      key       = "server-key.pem"
    }
  }
  trust "/etc/pki/qemu/ca-cert.pem" {
    authorities = [authority.qemu, authority.libvirt]
    foreign     = "remove"
  }
  settings "/etc/libvirt/qemu.conf" {
    migrate_tls_x509_cert_dir = "/etc/pki/qemu"
    migrate_tls_x509_verify   = true
  }
  listener "libvirt" {
    enabled = false
  }
  firewall {
    backend = "none"
    allow "libvirt-tls" {
      port = 16514
      from = [network.management, "peers", "192.0.2.0/24"]
    }
  }
  rollout {
    batch = "50%"
  }
}

network "management" {
  cidrs = ["10.0.0.0/8"]
}

cluster "one" {
  policy    = policy.base
  managed   = false
  migration = "available"
  ssh {
    port = 2200
  }
}

host "a" {
  address   = "a.example.com"
  cluster   = cluster.one
  migration = "off"
}

host "b" {
  address  = "10.0.0.2"
  cluster  = cluster.one
  policy   = policy.derived
  managed  = true
  host_key = ["SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]
  away     = "2026-12-31: mainboard"
  ssh {
    identity = []
  }
}

host "c" {
  address = "c.example.com"
  policy  = policy.derived
}
