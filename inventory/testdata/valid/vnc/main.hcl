authority "libvirt" {
  organization = "Example"
}

authority "screens" {
  organization = "Example"
}

policy "standard" {
  template    = "libvirt"
  authorities = { display = authority.screens }

  listener "vnc" {
    verify = true
  }
}

policy "without" {
  extends = policy.standard

  listener "vnc" {
    enabled = false
  }
}

host "a" {
  address = "10.0.0.1"
  policy  = policy.standard
}

host "b" {
  address = "10.0.0.2"
  policy  = policy.without
}
