authority "libvirt" {
  organization = "Example"
}

host "kvm1" {
  address = "kvm1.example.com"
  policy  = policy.standard
}

policy "standard" {
  template = "libvirt"

  trust "/etc/pki/CA/cacert.pem" {
    format = "jks"
  }
  trust "/etc/app/ca.p12" {
    authorities = [authority.libvirt]
  }
  trust "/etc/app/list.jks" {
    authorities = [authority.libvirt]
    format      = "jks"
    crl         = "/etc/app/list.crl"
  }
  trust "/etc/app/other" {
    authorities = [authority.libvirt]
    format      = "pfx"
  }
}
