# Builds a base system whose libvirt runs as modular daemons: BUILDER is the
# root tree of a suite that has the monolithic one, and the same version of
# libvirt is built from that suite's source package. No Debian package has the
# modular daemons. Only what is installed is copied: the compiler stays outside.
export LC_ALL=C.UTF-8
build="gcc libc6-dev meson ninja-build pkgconf python3 python3-docutils xsltproc libxml2-utils rpcsvc-proto gettext
	libglib2.0-dev libgnutls28-dev libxml2-dev libtirpc-dev libjson-c-dev libnl-3-dev libnl-route-3-dev libpciaccess-dev
	libcap-ng-dev libacl1-dev libattr1-dev libblkid-dev libdevmapper-dev libudev-dev libreadline-dev libnuma-dev xz-utils"
daemons="virtqemud virtproxyd virtnetworkd virtnodedevd virtnwfilterd virtsecretd virtstoraged"

mkdir -p "$target" "$debs"
work=$(mktemp -d "$target.builder.XXXXXX")
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay -o "lowerdir=$builder,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
root=$work/root
mount_api "$root"
borrow_apt "$root"
sed -n 's/^deb /deb-src /p' "$root/etc/apt/sources.list" >"$root/etc/apt/sources.list.d/source.list"
install "$root" $build
# apt may complain of the signature beside the tarball: its digest in the signed
# index is what counts.
mkdir "$root/src"
chroot "$root" sh -eu -c '
	cd /src
	apt-get -q -o APT::Sandbox::User=root source --download-only libvirt || :
	t=$(ls libvirt_*.orig.tar.xz)
	apt-cache showsrc libvirt | grep -A 40 "^Checksums-Sha256:" | grep -q " $(sha256sum "$t" | cut -d" " -f1) [0-9]* $t\$\|^ $(sha256sum "$t" | cut -d" " -f1) [0-9]* $t"
	mkdir tree
	tar -xf "$t" -C tree --strip-components=1
	cd tree
	off=
	for o in driver_bhyve driver_ch driver_esx driver_hyperv driver_interface driver_libxl driver_lxc driver_openvz \
		driver_test driver_vbox driver_vmware driver_vz docs tests nls; do
		off="$off -D$o=disabled"
	done
	meson setup build -Dsystem=true -Drunstatedir=/run -Dinit_script=systemd -Ddriver_qemu=enabled -Ddriver_remote=enabled \
		-Dapparmor=disabled -Dsecdriver_apparmor=disabled -Dqemu_user=libvirt-qemu -Dqemu_group=libvirt-qemu $off
	ninja -C build
	DESTDIR=/out meson install -C build --no-rebuild --strip
'
cp -a "$builder/." "$target/"
cp -a "$root/out/." "$target/"
umount -R "$root"
rm -rf "$work"

# As EL 9, Fedora and SUSE have it: sockets start the daemons, the monolithic
# daemon cannot start.
systemctl --root="$target" disable libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket
systemctl --root="$target" mask libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd-tls.socket libvirtd-tcp.socket
for d in $daemons; do
	systemctl --root="$target" enable "$d.socket" "$d-ro.socket" "$d-admin.socket"
done
systemctl --root="$target" enable virtqemud.service virtlogd.socket virtlockd.socket
chroot "$target" ldconfig
