// Package lab starts whole hosts on one Debian machine: systemd, OpenSSH,
// libvirtd, QEMU and a firewall, each in a container with its own network
// namespace, over a cached root tree of a Debian suite.
//
// A Lab is a set of hosts on two bridges, one for management and one for
// migration. The bridges and the lab's own addresses live in a "controller"
// namespace, so that the machine's own network is left as it was and several
// labs can run side by side with the same addresses. Dial, Listen and Command
// reach into that namespace.
//
// The package needs root. Guests run under emulation only, and neither AppArmor
// nor SELinux is enforced.
package lab
