authority "libvirt" {
  organization = "Example"
}

policy "standard" {
  template = "libvirt"
}

policy "own" {
  certificate "q" {
    authority  = authority.libvirt
    usages     = ["server"]
    needed_for = "migrations"
    install {
      directory = "/etc/pki/q"
      cert      = "a.pem"
      key       = "a.key"
      aliases   = { "a.pem" = "../b.key" }
      owner     = "@qemu"
      group     = "kvm"
      key_mode  = "0640"
    }
  }
}

cluster "one" {
  policy    = policy.standard
  migration = "available"
}

host "a" {
  address = "a.example.com"
  cluster = cluster.one
}

host "b" {
  address   = "b.example.com"
  cluster   = cluster.one
  migration = "required"
}

host "c" {
  address   = "c.example.com"
  cluster   = cluster.one
  migration = "off"
}
