authority "libvirt" {
  organization = "Example"
}

policy "standard" {
  template = "libvirt"
}

network "management" {
  cidrs = ["10.0.0.0/24", "2001:db8::1/64", "10.1.0.1", "fe80::%eth0/64"]
}

network "migration" {
  cidrs = ["10.9.0.0/24"]
}

network "empty" {
  cidrs = []
}

host "a" {
  address = "a.example.com"
  policy  = policy.standard
  nic "migration" {
    fqdn      = "a-mig.example.com"
    addresses = ["10.9.0.1", "10.8.0.1", "fe80::1%eth0", "10.9.0.300"]
  }
}

host "b" {
  address = "A.example.com"
  policy  = policy.standard
  nic "migration" {
    fqdn      = "a-mig.example.com"
    addresses = ["10.9.0.1"]
  }
}

host "c" {
  address = "root@c.example.com"
  policy  = policy.standard
  nic "migartion" {
    addresses = "10.9.0.7"
  }
}

host "d" {
  address = "d.example.com:2222"
  policy  = policy.standard
  names   = ["*.example.com", "a_b.example.com", "a.example.com", "bad;name", "1.2.3"]
}

host "Bad_Name" {
  address = "192.0.2.300"
  policy  = policy.standard
}

host "lonely" {
  address = "lonely.example.com"
}
