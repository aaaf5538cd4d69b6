authority "libvirt" {
  organization = "Example"
}

policy "standard" {
  template = "libvirt"
}

network "management" {
  cidrs = ["10.0.0.0/24"]
}

cluster "rack" {
  for_each = toset(["r1", "r2"])
  policy   = policy.standard
}

host "kvm" {
  for_each = { for r in csvdecode(file("hosts.csv")) : r.name => r }
  address  = each.value.address
  cluster  = cluster.rack[each.value.rack]

  nic "management" {
    addresses = [each.value.address]
  }
}
