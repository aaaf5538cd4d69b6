# Three hosts whose authority changes its generation while they run.
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

# It cannot be reached until its new board comes: no step waits for it. apply says so
# and ends with 3, or leaves it out with --exclude kvm3.
host "kvm3" {
  address = "kvm3.example.com"
  cluster = cluster.rack1
  away    = "2027-01-31: new board"
}
