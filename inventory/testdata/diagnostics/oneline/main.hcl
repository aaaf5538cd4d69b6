host "kvm1" { address = "kvm1.example.com", policy = policy.standard }

policy "standard" { template = "libvirt" }
