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

  # A shorter life than the template's 90 days, renewed ten days before its end.
  certificate "libvirt-server" {
    lifetime     = "30d"
    renew_before = "10d"
  }
}
