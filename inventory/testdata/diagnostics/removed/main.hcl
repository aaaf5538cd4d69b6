authority "libvirt" {
  organization = "Example"
}

policy "standard" {
  template = "libvirt"

  certificate "libvirt-client" {
    on_replace = "forget"
  }
}

host "kvm1" {
  address = "kvm1.example.com"
  policy  = policy.standard
}

removed {
  host = "kvm1"
}

removed {
  host   = "kvm7"
  revoke = true
}

removed {
  host = "kvm7"
}

removed {
  host = "KVM 8"
}

removed {
  revoke = true
}
