ssh {
  user     = "root; reboot"
  port     = 70000
  identity = ["~other/key", ""]
  become   = "su"
  jump     = ["a@b@c", "host:0", "-oProxyCommand=x", "", "fe80::zz", "gw", "ops@gw.example.com:2222", "[2001:db8::1]:22", "2001:db8::1"]
  config   = "~other/config"
  password = "correct horse"

  become_password = "correct horse"
}

cluster "c" {
  ssh {
    become_password = "command:pass show sudo"
  }
}

host "a" {
  address  = "a.example.com"
  host_key = ["MD5:00"]
  away     = "soon"
  managed  = "maybe"
  labels   = ["x"]
  ssh {
    known_hosts = "a\u0007b"
  }
}

host "b" {
  address = "2001:db8::1%eth0"
}

host "c" {
  address = "fe80::1%eth 0"
}
