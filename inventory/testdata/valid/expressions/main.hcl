locals {
  net   = "10.1.0.0/16"
  yaml  = yamldecode(file("data.yaml"))
  json  = jsondecode("{\"a\": [1, 2]}")
  known = fileexists("data.yaml") && !fileexists("nonesuch")
}

authority "libvirt" {
  organization = try(local.yaml.organization, "none")
}

policy "standard" {
  template = "libvirt"
}

network "all" {
  cidrs = [local.net, cidrsubnet("2001:db8::/32", 16, 7)]
}

host "h1" {
  address = cidrhost(local.net, 10)
  policy  = policy.standard
  labels = {
    can    = can(local.yaml.nonesuch)
    inside = cidrcontains(local.net, "10.1.2.3")
    known  = local.known
    length = length(local.json.a)
    upper  = upper(format("%s-%03d", "x", 7))
    last   = cidrhost("10.1.0.0/24", -2)
  }

  nic "all" {
    addresses = [cidrhost(network.all.cidrs[0], 10), cidrhost(network.all.cidrs[1], 1)]
  }
}
