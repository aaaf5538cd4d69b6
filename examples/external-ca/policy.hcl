# virtrust ca import libvirt CHAIN.pem and virtrust ca import qemu CHAIN.pem come
# first: the certificates that sign, each up to its root.
authority "libvirt" {
  kind = "step"

  step {
    url           = "https://ca.example.com"
    provisioner   = "virtrust"
    password_from = "file:/etc/virtrust/provisioner-password"
  }
}

# QEMU processes must not be able to log in to libvirtd. The role gives both usages;
# for libvirt's certificates there would be a client_role beside it.
authority "qemu" {
  kind = "vault"

  vault {
    address    = "https://vault.example.com:8200"
    mount      = "pki-qemu"
    role       = "hosts"
    token_from = "env:VAULT_TOKEN"
  }
}

policy "standard" {
  template = "libvirt"
}
