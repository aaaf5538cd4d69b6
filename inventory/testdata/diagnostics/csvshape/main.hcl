host "kvm" {
  for_each = { for r in csvdecode(file("hosts.csv")) : r.name => r }
  address  = each.value.address
}

host "none" {
  for_each = file("nonesuch.csv")
  address  = "x"
}

host "outside" {
  for_each = file("../csv/hosts.csv")
  address  = "x"
}

host "list" {
  for_each = ["a", "b"]
  address  = each.value
}
