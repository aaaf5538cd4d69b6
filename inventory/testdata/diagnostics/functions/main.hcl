locals {
  width   = format("%99999d", 1)
  range   = range(1000000)
  product = setproduct(range(1000), range(1000))
  cidr    = cidrhost("10.0.0.0/24", 256)
  subnet  = cidrsubnet("10.0.0.0/24", 4, 16)
  contain = cidrcontains("10.0.0.0", "x")
  clock   = timestamp()
  yaml    = yamldecode("a: &x [1]\nb: *x")
  big     = pow(10, 100000)
  grow    = join("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", range(20000))
  json    = jsondecode("{")
}
