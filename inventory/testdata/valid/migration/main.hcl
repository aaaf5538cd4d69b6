# The first host has QEMU's identity, the second has none, and what a policy
# adds to a block of the template stays.
fleet {
  migration = "required"
}

authority "libvirt" {
  organization = "Example"
}

authority "qemu" {
  organization = "Example"
}

policy "standard" {
  template = "libvirt"

  settings "/etc/libvirt/qemu.conf" {
    vnc_listen = "127.0.0.1"
  }
}

host "a" {
  address = "a.example.com"
  policy  = policy.standard
}

host "b" {
  address   = "b.example.com"
  policy    = policy.standard
  migration = "off"
}
