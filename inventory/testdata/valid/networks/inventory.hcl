network "management" {
  cidrs = ["10.0.0.0/24", "2001:db8::/64"]
}

network "migration" {
  for_each = { r1 = "10.9.0.0/24", r2 = "10.9.1.0/24" }
  cidrs    = [each.value]
}

network "display" {
  cidrs    = ["192.0.2.0/24"]
  discover = true
}

cluster "rack" {
  for_each = toset(["r1", "r2"])
  policy   = policy.standard
}

host "kvm" {
  for_each = { for r in csvdecode(file("hosts.csv")) : r.name => r }
  address  = each.value.address
  cluster  = cluster.rack[each.value.rack]
  labels   = { rack = each.value.rack }

  nic "management" {
    fqdn      = "${each.key}.example.com"
    addresses = [each.value.address]
  }
  nic "migration" {
    network   = network.migration[each.value.rack]
    fqdn      = "${each.key}-mig.example.com"
    addresses = [each.value.migration]
  }
  names = ["VIP.example.com"]
}
