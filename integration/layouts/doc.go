// Package layouts tests the ways in which hosts run libvirt: libvirtd that
// listens itself, and the modular daemons.
package layouts
