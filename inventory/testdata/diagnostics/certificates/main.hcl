authority "libvirt" {
  organization = "Example"
  lifetime     = "30d"
}

policy "standard" {
  template = "libvirt"

  certificate "libvirt-server" {
    lifetime     = "20d"
    renew_before = "20d"
    usages       = ["sever"]
    key_usage    = "relaxed"
    key {
      algorithm = "ed25519"
    }
    install {
      directory = "/etc/pki/libvirt/"
      key_mode  = "0644"
    }
  }
  certificate "libvirt-client" {
    lifetime = "3 months"
    usages   = []
    install {
      key_mode = 600
      owner    = "root; rm"
      key      = "../secret"
    }
  }
  certificate "long" {
    authority = authority.libvirt
    usages    = ["server"]
    install {
      directory = "/etc/pki/libvirt"
      cert      = "clientcert.pem"
      key       = "private/long.pem"
    }
  }
  certificate "incomplete" {
    install {
      directory = "/var/lib/x"
    }
  }
  trust "/etc/pki/CA/other.pem" {
    authorities = []
    crl         = "/etc/pki/CA/cacrl.pem"
    foreign     = "drop"
  }
}
