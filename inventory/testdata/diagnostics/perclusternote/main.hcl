authority "libvirt" {
  organization = "Example"
  per          = "cluster"
}

authority "idle" {
  organization = "Example"
  per          = "cluster"
}

cluster "rack" {
  for_each = toset(["r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9"])
  policy   = policy.standard
}

host "kvm" {
  for_each = toset(["r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9"])
  address  = "kvm-${each.key}.example.com"
  cluster  = cluster.rack[each.key]
}

policy "standard" {
  template = "libvirt"
}
