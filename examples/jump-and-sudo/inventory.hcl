# Hosts behind a bastion, reached as a user who may do everything by sudo.
# docs/sudo.md has the lines of sudoers.
ssh {
  user   = "deploy"
  become = "sudo"
  jump   = ["ops@bastion.example.com"]
}

cluster "rack1" {
  policy    = policy.standard
  migration = "available"
}

host "kvm1" {
  address = "kvm1.internal.example.com"
  cluster = cluster.rack1
}

host "kvm2" {
  address = "kvm2.internal.example.com"
  cluster = cluster.rack1
}

# In another room, behind a second bastion. Here sudo asks for a password,
# which is asked for once in a run.
host "kvm3" {
  address = "kvm3.internal.example.com"
  cluster = cluster.rack1

  ssh {
    become_password = "prompt"
    jump            = ["ops@bastion.example.com", "ops@bastion2.internal.example.com:2222"]
  }
}
