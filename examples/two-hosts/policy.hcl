authority "libvirt" {
  organization    = "Example"
  passphrase_from = "prompt"
}

# QEMU processes must not be able to log in to libvirtd.
authority "qemu" {
  organization    = "Example"
  passphrase_from = "prompt"
}

policy "standard" {
  template = "libvirt"
}
