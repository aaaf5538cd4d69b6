authority "libvirt" {
  organization  = "Example"
  per           = "cluster"
  key_directory = "/srv/keys"
}

authority "qemu" {
  organization = "Example"
  per          = "cluster"
}

authority "people" {
  organization = "Example"
}

cluster "rack" {
  for_each = toset(["rack1", "rack2", "spare"])
  policy   = policy.standard
}

host "kvm1" {
  address   = "kvm1.example.com"
  cluster   = cluster.rack["rack1"]
  migration = "available"
}

host "kvm2" {
  address = "kvm2.example.com"
  cluster = cluster.rack["rack2"]
}

relying_party "backup" {
  authorities = [authority.libvirt, authority.people]
}

policy "standard" {
  template = "libvirt"
  trust "/etc/pki/CA/cacert.pem" {
    authorities = [authority.libvirt, authority.people]
  }
}
