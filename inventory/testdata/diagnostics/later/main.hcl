relying_party "backup" {
  anything = 1
}

moved {
}

vm "x" {
}

ssh {
  port = 22
}

authority "libvirt" {
  organization = "Example"
  kind         = "vault"
  per          = "cluster"
}

cluster "a" {
  policy    = policy.standard
}

policy "standard" {
  template = "libvirt"

  certificate "libvirt-server" {
    scope = "nic"
  }
  trust "/etc/pki/CA/cacert.pem" {
    crl = "/etc/pki/CA/crl.pem"
  }
  listener "spice" {
    port = 5900
  }
  firewall {
    backend = "auto"
  }
}

policy "stack" {
  template = "cloudstack"
}

policy "walls" {
  firewall {
    allow "x" {
      port  = 70000
      ports = "9-1"
      from  = ["10.0.0.1/8", "everyone", policy.stack]
    }
  }
}
