// Package pki knows certificates as libvirt and QEMU see them: profiles of
// leaves, certificate requests, authorities and their generations, bundles,
// the Trust snapshot, and the exact rules by which each version accepts a
// certificate. It does no I/O and reads no clock.
package pki
