cluster "rack1" {
  policy = policy.standard
}

host "kvm1" {
  address = "kvm1.example.com"
  cluster = cluster.rack1
}

host "kvm2" {
  address = "kvm2.example.com"
  cluster = cluster.rack1
}
