policy "walls" {
  firewall {
    backend = "pf"

    allow "service" {}

    allow "a b" {
      port = 16514
    }

    allow "migration" {}
  }
}
