variable "rack" {
  type = string
}

variable "count" {
  type    = number
  default = "many"
}

variable "word" {
  default = libvirt
}

variable "odd" {
  type = text
}

locals {
  a = var.rack
  b = var.rck
}
