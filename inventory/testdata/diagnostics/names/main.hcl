authority "libvirt" {
  organization = "Example"
}

authority "other" {
  organization = "Example"
}

network "migration" {
  cidrs = ["10.9.0.0/24"]
}

policy "standard" {
  template = "libvirt"
  certificate "libvirt-server" {
    networks  = [network.migration]
    authority = authority.other
  }
}

host "a" {
  address = "a.example.com"
  policy  = policy.standard
}
