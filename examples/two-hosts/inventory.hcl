# Two hosts that migrate guests to each other, encrypted.
cluster "rack1" {
  policy    = policy.standard
  migration = "available" # off | available | required
}

host "kvm1" {
  address = "kvm1.example.com"
  cluster = cluster.rack1
}

host "kvm2" {
  address = "kvm2.example.com"
  cluster = cluster.rack1
}
