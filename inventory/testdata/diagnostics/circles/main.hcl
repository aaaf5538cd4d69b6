locals {
  a = local.b
  b = "x${local.c}"
  c = local.a
}

policy "p" {
  extends = policy.q
}

policy "q" {
  extends = policy.p
}

network "n" {
  for_each = network.n
  cidrs    = ["10.0.0.0/8"]
}

host "h" {
  address = host.h.address
  policy  = policy.p
}
