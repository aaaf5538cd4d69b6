// Package qemu holds the tests of QEMU's own identity, of migration = off,
// available and required, and of conditions between hosts: the real binary, on
// hosts of three releases.
package qemu
