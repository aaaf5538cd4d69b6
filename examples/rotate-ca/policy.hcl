#  1. virtrust ca rotate libvirt   generation 2 is made
#  2. virtrust apply               every bundle gains it
#  3. virtrust ca rotate libvirt   issue: waits for hosts that have not loaded it, and
#     --confirmed monitoring       for the monitoring, for which somebody vouches
#  4. virtrust apply               every certificate is made anew
#  5. virtrust ca rotate libvirt   retire: waits for certificates of generation 1
#     --confirmed monitoring
#  6. virtrust apply               every bundle loses generation 1
#  7. virtrust ca rotate libvirt   its key is destroyed
#
# virtrust ca matrix libvirt shows at any moment who can talk to whom; until step 5
# virtrust ca rotate libvirt --abort goes back.
authority "libvirt" {
  organization    = "Example"
  passphrase_from = "prompt"
}

authority "qemu" {
  organization    = "Example"
  passphrase_from = "prompt"
}

# It connects to libvirt and verifies the hosts with virtrust ca export libvirt.
relying_party "monitoring" {
  authorities = [authority.libvirt]
  note        = "ops@example.com puts the new bundle in place"
}

policy "standard" {
  template = "libvirt"
}
