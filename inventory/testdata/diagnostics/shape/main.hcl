host "kvm1" {
  adress  = "kvm1.example.com"
  cluster = cluster.rack1
  nicc "management" {
  }
}

cluster "rack1" {
}

cluster "rack1" {
}

hots "kvm2" {
}

host {
}

policy "p" {
  template = "libvirt"
  extends  = policy.p
  rollout {
  }
  rollout {
  }
}

locals {
  a = local.b
  b = local.a
}

locals {
  a = 1
}
