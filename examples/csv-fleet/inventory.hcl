# A fleet from a spreadsheet: one line a host, one cluster a rack.
locals {
  hosts = { for r in csvdecode(file("hosts.csv")) : r.name => r }
}

cluster "rack" {
  for_each  = toset([for h in values(local.hosts) : h.rack])
  policy    = policy.standard
  migration = "available"
}

network "management" {
  cidrs = ["10.0.0.0/24"]
}

network "migration" {
  cidrs = ["10.9.0.0/24"]
}

host "kvm" {
  for_each = local.hosts
  address  = each.value.address
  cluster  = cluster.rack[each.value.rack]
  labels   = { rack = each.value.rack }

  nic "management" {
    fqdn      = "${each.key}.example.com"
    addresses = [each.value.address]
  }

  nic "migration" {
    fqdn      = "${each.key}-mig.example.com"
    addresses = [each.value.migration]
  }
}
