# Has the VNC console of one running guest read its certificate again. Returns 0
# when it did, 2 when it has none with TLS, 3 when the guest cannot be asked now,
# 1 when it refused; out says why.
console() { # guest
	out=
	p=$(cat "/run/libvirt/qemu/$1.pid" 2>/dev/null) && [ -n "$p" ] || return 2
	tr '\0' '\n' 2>/dev/null <"/proc/$p/cmdline" | sed -n '/^-vnc$/{n;p;}' | grep -q 'tls-creds=' || return 2
	# A name could be taken for another guest's number.
	u=$(sed -n 's|^ *<uuid>\([0-9a-f-]*\)</uuid>.*|\1|p' "/run/libvirt/qemu/$1.xml" 2>/dev/null | head -n 1)
	[ -n "$u" ] || return 2
	if grep -o "async='[^']*'" "/run/libvirt/qemu/$1.xml" 2>/dev/null | grep -q -v "'none'"; then
		out='it is in a job (migration, backup)'
		return 3
	fi
	# libvirt has the command since 10.2. Its --type takes a number, not a name.
	if virsh help domdisplay-reload >/dev/null 2>&1 </dev/null; then
		out=$(timeout 20 virsh -q -c qemu:///system domdisplay-reload "$u" 2>&1 </dev/null)
		r=$?
	else
		# virsh ends well whatever QEMU answers.
		out=$(timeout 20 virsh -q -c qemu:///system qemu-monitor-command "$u" '{"execute":"display-reload","arguments":{"type":"vnc","tls-certs":true}}' 2>&1 </dev/null)
		r=$?
		case $r$out in 0*'"return"'*) ;; 0*) r=1 ;; esac
	fi
	case $r in
	0) return 0 ;;
	124 | 137) out='its monitor does not answer'; return 3 ;;
	esac
	[ -d "/proc/$p" ] || return 2
	case $out in *'state change lock'*) return 3 ;; esac
	out=$(printf '%s\n' "$out" | grep -v '^$' | tail -n 2)
	return 1
}
