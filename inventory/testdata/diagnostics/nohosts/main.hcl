locals {
  empty = true
}
