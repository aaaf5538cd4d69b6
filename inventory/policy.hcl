authority "libvirt" {
  organization = "Example"
}

policy "standard" {
  template = "libvirt"
}
