cluster "rack1" {
  policy = "standard"
}

cluster "rack2" {
  policy = policy.standrad
}

cluster "rack" {
  for_each = toset(["r1"])
  policy   = policy.standard
}

authority "libvirt" {
  organization = "Example"
}

policy "standard" {
  template = libvirt
}

policy "other" {
  template = "libvrit"
}

policy "third" {
  template = "libvirt"

  certificate "libvirt-server" {
    authority = "libvirt"
    networks  = [network.management, cluster.rack1, "management"]
  }
}

host "a" {
  address = "a.example.com"
  cluster = cluster.rack
}

host "b" {
  address = "b.example.com"
  cluster = cluster.rack["r2"]
}

host "c" {
  address = each.value
  cluster = clutser.rack1
}

host "d" {
  address = local.nonesuch
  cluster = cluster
}

host "e" {
  address = "e.example.com"
  cluster = policy.third
}
