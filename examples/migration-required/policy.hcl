authority "libvirt" {
  organization    = "Example"
  passphrase_from = "prompt"
}

authority "qemu" {
  organization    = "Example"
  passphrase_from = "prompt"
}

policy "standard" {
  template = "libvirt"

  firewall {
    allow "libvirt-tls" {
      from = [network.management]
    }

    # The ports are those of each host's qemu.conf.
    allow "migration" {
      from = [network.migration]
    }
  }
}
