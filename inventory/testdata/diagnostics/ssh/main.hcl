ssh {
  user     = "root; reboot"
  port     = 70000
  identity = ["~other/key", ""]
  become   = "su"

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
