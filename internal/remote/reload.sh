# Has a daemon read its certificates again while it accepts nobody: libvirt frees
# the credentials that handshakes in progress still use, which refuses those
# clients and can end the daemon. New clients wait in the kernel's queue for the
# moment. The limits that hold them back live in the daemon's memory alone; the
# journal keeps what they were, so that a reverter can put them back.
admin() { timeout -s KILL 30 virt-admin "$1" 2>&1 </dev/null; } # commands, one after the other
seconds() { # since the boot
	read -r t x </proc/uptime
	echo "${t%.*}"
}
shaking() { # daemon, its list of clients: has one no name yet, as in a handshake?
	n=0 asked=
	for id in $(printf '%s\n' "$2" | sed -n 's/^ *\([0-9][0-9]*\)  *tls .*/\1/p'); do
		n=$((n + 1)) asked="$asked client-info $1 $id;"
	done
	[ $n -gt 0 ] && [ "$(admin "$asked" | grep -c '^tls_x509_dname')" -lt $n ]
}
reload() { # service; out says why not
	set -- "${1%.service}"
	out=$(admin "server-clients-info $1") || {
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
		if [ $# != 3 ]; then
			admin "server-update-tls $1"
			exit
		fi
		until=$(($(seconds) + 5))
		seen=$(admin "server-clients-set $1 --max-clients 0 --max-unauth-clients 0; client-list $1")
		while shaking "$1" "$seen" && [ "$(seconds)" -lt "$until" ]; do
			sleep 0.2
			seen=$(admin "client-list $1")
		done
		admin "server-update-tls $1; server-clients-set $1 --max-clients $2 --max-unauth-clients $3"
	) || return 1
	# The status is that of the last command.
	case $out in *error:*) return 1 ;; esac
}
