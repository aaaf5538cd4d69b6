authority "libvirt" {
  organization = "Example"
}

policy "undeclared" {
  template = "libvirt"

  listener "vnc" {
  }
}

policy "bare" {
  listener "vnc" {
    port = 5900
  }
}

policy "own" {
  certificate "vnc" {
    needed_for = "vnc"
    authority  = authority.libvirt
    usages     = ["server"]

    install {
      directory = "/etc/pki/own"
      cert      = "cert.pem"
      key       = "key.pem"
      owner     = "@qemu"
    }
  }

  listener "vnc" {
  }
}

policy "alone" {
  certificate "vnc" {
    needed_for = "vnc"
    authority  = authority.libvirt
    usages     = ["server"]

    install {
      directory = "/etc/pki/own"
      cert      = "server-cert.pem"
      key       = "server-key.pem"
      owner     = "@qemu"
    }
  }

  listener "vnc" {
  }
}

policy "twice" {
  extends = policy.alone

  trust "/etc/pki/own/ca-cert.pem" {
    authorities = [authority.libvirt]
  }

  settings "/etc/libvirt/qemu.conf" {
    vnc_tls = false
  }
}

policy "listens" {
  template = "libvirt"

  listener "libvirt" {
    verify = true
  }
}

policy "none" {
  listener "vnc" {
  }
}

host "h" {
  for_each = { a = policy.undeclared, b = policy.own, c = policy.alone, e = policy.none }
  address  = "${each.key}.example.com"
  policy   = each.value
}

host "twice" {
  address = "10.0.0.9"
  policy  = policy.twice
}

host "bare" {
  address = "10.0.0.8"
  policy  = policy.bare
}
