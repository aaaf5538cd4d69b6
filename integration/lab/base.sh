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

mkdir -p "$target" "$debs"
if [ -z "$builder" ]; then
	debootstrap --variant=minbase --cache-dir="$debs" --include="$system" "$suite" "$target"
else
	work=$(mktemp -d "$target.builder.XXXXXX")
	mount -t tmpfs tmpfs "$work"
	mkdir "$work/upper" "$work/work" "$work/root"
	mount -t overlay -o "lowerdir=$builder,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
	mount_api "$work/root"
	borrow_apt "$work/root"
	install "$work/root" debootstrap debian-archive-keyring
	mkdir "$work/root/target" "$work/root/debs"
	mount --bind "$target" "$work/root/target"
	mount --bind "$debs" "$work/root/debs"
	chroot "$work/root" debootstrap --variant=minbase --cache-dir=/debs --include="$system" "$suite" /target
	umount -R "$work/root"
	umount "$work"
	rmdir "$work"
fi

cp -a "$target/etc/apt/apt.conf.d" "$target/root/apt.conf.d"
mount_api "$target"
borrow_apt "$target"
install "$target" $libvirt
# netfilter-persistent conflicts with ufw: it is put in place of it on hosts that use it.
mkdir "$target/usr/share/lab"
chroot "$target" sh -c 'cd /usr/share/lab && apt-get -q -o APT::Sandbox::User=root download iptables-persistent netfilter-persistent'
umount "$target/proc" "$target/sys" "$target/dev/pts"

# What was borrowed for the build is given back.
rm -rf "$target/etc/apt/apt.conf.d" "$target/etc/apt/apt.conf" "$target/var/lib/apt/lists" "$target/var/cache/apt"
mv "$target/root/apt.conf.d" "$target/etc/apt/apt.conf.d"
mkdir -p "$target/var/lib/apt/lists/partial" "$target/var/cache/apt/archives/partial"
rm -f "$target/usr/sbin/policy-rc.d" "$target/etc/dpkg/dpkg.cfg.d/lab" "$target/etc/resolv.conf" "$target/etc/hosts"
: >"$target/etc/resolv.conf"

# What must differ between hosts, or must be chosen for each.
rm -f "$target"/etc/ssh/ssh_host_* "$target/var/lib/dbus/machine-id" "$target/etc/hostname"
: >"$target/etc/machine-id"
systemctl --root="$target" disable firewalld.service ufw.service nftables.service
systemctl --root="$target" disable apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer e2scrub_reap.service 2>/dev/null || true
rm -rf "$target"/var/log/*.log "$target/var/log/apt"
# Nothing is left to be brought up to date at the first boot.
touch "$target/etc/.updated" "$target/var/.updated"
