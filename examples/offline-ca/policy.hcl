# 1. virtrust ca import libvirt CHAIN.pem    the CA's certificate, up to its root
# 2. virtrust apply                          ends with 3: requests wait in requests/libvirt
# 3. carry the .csr files to the CA, sign them, put each chain beside its request as .crt
# 4. virtrust apply                          installs them
authority "libvirt" {
  kind = "offline"
}

policy "standard" {
  template = "libvirt"
}
