#!/bin/sh
# Builds one base system: base.sh SUITE TARGET DEBS [BUILDER]
# TARGET is a new directory, DEBS a directory in which packages are kept.
# BUILDER is a finished root tree whose own debootstrap is used, for suites
# that the machine's debootstrap does not know.
# It runs in a mount namespace of its own, so nothing stays mounted.
set -eu
suite=$1 target=$2 debs=$3 builder=${4-}
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

system=systemd,systemd-sysv,dbus,libpam-systemd,openssh-server,openssh-client,openssh-sftp-server,sudo,iproute2,nftables,iptables,ca-certificates,openssl,gnutls-bin,procps,busybox,dash,iputils-ping
libvirt="libvirt-daemon-system libvirt-clients qemu-system-x86 firewalld ufw"

# mount_api ROOT gives a root tree the kernel's file systems.
mount_api() {
	mount -t proc proc "$1/proc"
	mount -t sysfs -o ro sysfs "$1/sys"
	mount -t devpts -o newinstance,ptmxmode=0666 devpts "$1/dev/pts"
}

# borrow_apt ROOT gives a root tree the machine's way to reach its mirror.
borrow_apt() {
	mkdir -p "$1/etc/apt/apt.conf.d"
	cp /etc/apt/apt.conf.d/* "$1/etc/apt/apt.conf.d/"
	if [ -e /etc/apt/apt.conf ]; then cp /etc/apt/apt.conf "$1/etc/apt/"; fi
	cp -L /etc/resolv.conf "$1/etc/resolv.conf"
	cp -L /etc/hosts "$1/etc/hosts"
	printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
	chmod 755 "$1/usr/sbin/policy-rc.d"
	mkdir -p "$1/etc/dpkg/dpkg.cfg.d"
	echo force-unsafe-io >"$1/etc/dpkg/dpkg.cfg.d/lab"
}

# install ROOT PACKAGE... keeps what it downloads outside /var/cache/apt,
# which the borrowed configuration may empty.
install() {
	root=$1
	shift
	mkdir -p "$root/lab-debs/partial"
	mount --bind "$debs" "$root/lab-debs"
	mkdir -p "$debs/partial"
	chroot "$root" apt-get -q update
	chroot "$root" apt-get -q -y --no-install-recommends -o Dir::Cache::archives=/lab-debs/ -o APT::Keep-Downloaded-Packages=true -o APT::Sandbox::User=root install "$@"
	umount "$root/lab-debs"
	rm -rf "$root/lab-debs"
}

