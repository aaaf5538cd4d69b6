variable "racks" {
  type    = map(object({ hosts = number, domain = optional(string, "example.com") }))
  default = { r1 = { hosts = 2 }, r2 = { hosts = 1, domain = "example.net" } }
}

locals {
  hosts = merge([for rack, r in var.racks : { for n in range(r.hosts) : "${rack}-kvm${n + 1}" => { rack = rack, domain = r.domain } }]...)
}

authority "libvirt" {
  organization = "Example"
}

policy "standard" {
  template = "libvirt"
}

cluster "rack" {
  for_each = var.racks
  policy   = policy.standard
}

host "kvm" {
  for_each = local.hosts
  address  = "${each.key}.${each.value.domain}"
  cluster  = cluster.rack[each.value.rack]
}

host "spare" {
  address = "spare.example.com"
  policy  = policy.standard
  names   = ["also-${host.kvm["r1-kvm1"].name}.example.com"]
}
