# Two hosts whose certificates a company signs on a separate computer.
cluster "rack1" {
  policy    = policy.standard
  migration = "off"
}

host "kvm1" {
  address = "kvm1.example.com"
  cluster = cluster.rack1
}

host "kvm2" {
  address = "kvm2.example.com"
  cluster = cluster.rack1
}
