authority "libvrit" {
  organization    = " Example\t"
  passphrase_from = "hunter2"
}

authority "unused" {
  lifetime = "0d"
}

policy "unbound" {
  template = "libvirt"
}

policy "wrong" {
  template    = "libvirt"
  authorities = { libvrt = authority.libvrit }
}

policy "text" {
  template    = "libvirt"
  authorities = { libvirt = "libvrit" }
}

policy "own" {
  template = "libvirt"
  certificate "libvirt-server" {
    authority = authority.libvirt
  }
  certificate "libvirt-client" {
    enabled = false
  }
  trust "/etc/pki/CA/cacert.pem" {
    authorities = [authority.libvirt, authority.libvrit]
  }
}
