# Migrations without TLS are refused, and the firewall lets in what is needed
# from the networks that it comes from.
fleet {
  migration = "required"
}

cluster "rack1" {
  policy = policy.standard
}

network "management" {
  cidrs = ["10.0.0.0/24"]
}

network "migration" {
  cidrs = ["10.9.0.0/24"]
}

host "kvm1" {
  address = "10.0.0.11"
  cluster = cluster.rack1

  nic "management" {
    addresses = ["10.0.0.11"]
  }

  nic "migration" {
    addresses = ["10.9.0.11"]
  }
}

host "kvm2" {
  address = "10.0.0.12"
  cluster = cluster.rack1

  nic "management" {
    addresses = ["10.0.0.12"]
  }

  nic "migration" {
    addresses = ["10.9.0.12"]
  }
}

# Under repair: no condition waits for it until then.
host "kvm3" {
  address = "10.0.0.13"
  cluster = cluster.rack1
  away    = "2030-12-31: mainboard"

  nic "management" {
    addresses = ["10.0.0.13"]
  }

  nic "migration" {
    addresses = ["10.9.0.13"]
  }
}
