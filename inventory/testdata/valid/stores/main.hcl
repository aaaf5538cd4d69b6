authority "libvirt" {
  organization = "Example"
}

host "kvm1" {
  address = "kvm1.example.com"
  policy  = policy.standard
}

policy "standard" {
  template = "libvirt"

  trust "/etc/monitor/ca.p12" {
    authorities = [authority.libvirt]
    format      = "pkcs12"
  }
  trust "/etc/monitor/ca.jks" {
    authorities = [authority.libvirt]
    format      = "jks"
    foreign     = "remove"
  }
}
