#!/bin/sh
# Downloads packages and what they need beside a base system: packages.sh BASE
# TARGET PACKAGE... It runs in a mount namespace of its own, over the base, of
# which nothing is changed.
set -eu
base=$1 target=$2
shift 2
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
work=$(mktemp -d "$target.work.XXXXXX")
trap 'cd /; umount -R "$work" 2>/dev/null; rmdir "$work"' EXIT
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay -o "lowerdir=$base,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
mount -t proc proc "$work/root/proc"
mkdir -p "$work/root/etc/apt/apt.conf.d" "$work/root/lab-debs/partial"
cp /etc/apt/apt.conf.d/* "$work/root/etc/apt/apt.conf.d/"
if [ -e /etc/apt/apt.conf ]; then cp /etc/apt/apt.conf "$work/root/etc/apt/"; fi
cp -L /etc/resolv.conf /etc/hosts "$work/root/etc/"
mount --bind "$target" "$work/root/lab-debs"
mkdir -p "$target/partial"
chroot "$work/root" apt-get -q update
chroot "$work/root" apt-get -q -y --no-install-recommends --download-only -o Dir::Cache::archives=/lab-debs/ -o APT::Keep-Downloaded-Packages=true -o APT::Sandbox::User=root install "$@"
umount "$work/root/lab-debs"
rm -rf "$target/partial" "$target/lock"
