// Package pkitest builds certificates good and bad, with the verdict that each
// version of libvirt and QEMU gave on them, for tests of package pki and for
// tests that ask a real libvirtd or QEMU the same questions.
package pkitest
