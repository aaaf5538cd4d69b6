authority "prod" {
  organization = "Example"
}

policy "standard" {
  template    = "libvirt"
  authorities = { libvirt = authority.prod }

  certificate "libvirt-server" {
    networks     = [network.management, network.migration["r1"], network.migration["r2"]]
    renew_before = "45d"
  }
}
