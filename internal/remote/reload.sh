# Has a daemon read its certificates again while it accepts nobody: libvirt frees
# the credentials that handshakes in progress still use, which refuses those
# clients and can end the daemon. New clients wait in the kernel's queue for the
# moment. The limits that hold them back live in the daemon's memory alone; the
# journal keeps what they were, so that a reverter can put them back.
admin() { timeout -s KILL 30 virt-admin "$@" 2>&1 </dev/null; }
shaking() { # daemon: does a client still shake hands? Afterwards its name is known.
	ids=$(admin client-list "$1" | sed -n 's/^ *\([0-9][0-9]*\)  *tls .*/\1/p')
	n=0 asked=
	for id in $ids; do
		n=$((n + 1)) asked="$asked client-info $1 $id;"
	done
	[ $n -gt 0 ] && [ "$(admin "$asked" | grep -c '^tls_x509_dname')" -lt $n ]
}
reload() { # service; out says why not
	set -- "${1%.service}"
	out=$(admin server-clients-info "$1") || {
		[ $? != 137 ] || out="virt-admin does not answer"
		return 1
	}
	set -- "$1" $(sed -n "s/^limits $1 //p" "$D/journal" 2>/dev/null | tail -n 1)
	if [ $# != 3 ]; then
		set -- "$1" $(printf '%s\n' "$out" | sed -n 's/^nclients_max *: *\([0-9][0-9]*\)$/\1/p; s/^nclients_unauth_max *: *\([0-9][0-9]*\)$/\1/p')
		[ $# = 3 ] && printf 'limits %s\n' "$*" 2>/dev/null >>"$D/journal" || set -- "$1"
	fi
	# A logout may end this script's session; not between the two limits.
	out=$(
		trap '' HUP INT TERM
		[ $# != 3 ] || admin server-clients-set "$1" --max-clients 0 --max-unauth-clients 0 >/dev/null
		i=0
		while [ $# = 3 ] && [ $i -lt 50 ] && shaking "$1"; do
			sleep 0.1
			i=$((i + 1))
		done
		admin server-update-tls "$1"
		r=$?
		[ $# != 3 ] || admin server-clients-set "$1" --max-clients "$2" --max-unauth-clients "$3" || r=1
		exit $r
	)
}
