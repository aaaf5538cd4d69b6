authority "libvirt" {
  organization = "A name of an organization that is long and fits yet"
  per          = "cluster"
}

authority "libvirt-a" {
  organization = "Example"
}

authority "elsewhere" {
  kind = "exec"
  per  = "cluster"
  exec {
    command = ["/usr/local/bin/sign"]
  }
}

authority "nobody" {
  per = "clusters"
}

cluster "a" {
  policy = policy.standard
}

host "kvm1" {
  address = "kvm1.example.com"
  cluster = cluster.a
}

host "kvm2" {
  address = "kvm2.example.com"
  policy  = policy.standard
}

policy "standard" {
  template = "libvirt"
}
