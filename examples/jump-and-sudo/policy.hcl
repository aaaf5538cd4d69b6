authority "libvirt" {
  organization    = "Example"
  passphrase_from = "prompt"
}

authority "qemu" {
  organization    = "Example"
  passphrase_from = "prompt"
}

policy "standard" {
  template = "libvirt"
}
