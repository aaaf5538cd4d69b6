# Two hosts whose certificates the company's CAs sign: step-ca and Vault.
cluster "rack1" {
  policy    = policy.standard
  migration = "available"
}

host "kvm1" {
  address = "kvm1.example.com"
  cluster = cluster.rack1
}

host "kvm2" {
  address = "kvm2.example.com"
  cluster = cluster.rack1
}
