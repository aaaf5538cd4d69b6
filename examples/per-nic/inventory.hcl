# Hosts with a management and a migration network: what peers dial on either
# stands in the certificates.
cluster "rack1" {
  policy    = policy.standard
  migration = "available"
}

network "management" {
  cidrs = ["10.0.0.0/24", "2001:db8::/64"]
}

network "migration" {
  cidrs = ["10.9.0.0/24"]
}

host "kvm1" {
  address = "kvm1.example.com"
  cluster = cluster.rack1

  nic "management" {
    fqdn      = "kvm1.example.com"
    addresses = ["10.0.0.11", "2001:db8::11"]
  }

  nic "migration" {
    fqdn      = "kvm1-mig.example.com"
    addresses = ["10.9.0.11"]
  }
}

host "kvm2" {
  address = "kvm2.example.com"
  cluster = cluster.rack1

  nic "management" {
    fqdn      = "kvm2.example.com"
    addresses = ["10.0.0.12", "2001:db8::12"]
  }

  nic "migration" {
    fqdn      = "kvm2-mig.example.com"
    addresses = ["10.9.0.12"]
  }
}
