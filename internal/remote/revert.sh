# virtrust's reverter: puts back what the run named in /var/lib/virtrust/armed
# changed, from its journal. Safe to run at any time and more than once; does
# nothing after a commit. $1 is who asks: timer, boot, run, or a person; a timer
# names its run in $2 and touches no other.
LC_ALL=C; PATH=/usr/sbin:/usr/bin:/sbin:/bin; export LC_ALL PATH
umask 077
S=/var/lib/virtrust L=/run/virtrust who=${1:-person}
[ -f "$S/armed" ] || exit 0
mkdir -p -m 0700 "$L"
exec 9>>"$L/lock"
# A switch that hangs longer than this is overtaken; its fence no longer holds.
# ksh does not hand the descriptor on by itself.
flock -w 150 9 9>&9
# Read under the lock: while we waited, one run may have ended and another begun.
[ -f "$S/armed" ] || exit 0
IFS= read -r D <"$S/armed"
case $D in "$S"/run-*) ;; *) echo "virtrust: $S/armed does not name a run" >&2; exit 1 ;; esac
[ "$who" != timer ] || [ -z "${2-}" ] || [ "$D" = "$S/run-$2" ] || exit 0
J=$D/journal
put_lease() { # what stands on standard input; written over where nothing new fits
	x=$(cat)
	{ printf '%s\n' "$x" >"$L/lease.new" && mv -f "$L/lease.new" "$L/lease"; } 2>/dev/null && return 0
	rm -f "$L/lease.new"
	{ printf '%s\n' "$x" >"$L/lease"; } 2>/dev/null
}
if [ -f "$L/lease" ]; then
	f=$(sed -n 's/^fence //p' "$L/lease")
	sed "s/^fence .*/fence $((${f:-0} + 1))/" "$L/lease" | put_lease
fi
note() { printf '%s\n' "$*" >>"$J"; }
pend() { # what keeps the reverter from its end
	pending=$1
	note "revert-pending $1"
}
end() { # nothing of the run is left to wait for
	rm -f "$S/armed"
	if grep -qsx "run ${D##*/run-}" "$L/lease"; then
		sed -n '/^fence /p' "$L/lease" | put_lease
	fi
	case $who in run | person) systemctl stop "virtrust-revert-${D##*/run-}.timer" >/dev/null 2>&1 </dev/null ;; esac
	sync
	exit 0
}
[ -f "$J" ] || end
grep -q -e '^committed' -e '^reverted' "$J" && end
note "reverting for $who at $(date +%s)"

nl='
'
steps=
while IFS= read -r l; do
	case $l in "step "*) steps="$l$nl$steps" ;; esac
done <"$J"
pending= stopped= started= service= tls_before=yes was_running= daemons= begun= ended= consoles=
# Runtime rules are gone after a reboot; nothing else of a firewall was changed.
if [ "$who" != boot ] && [ -s "$D/walls" ]; then
	out=$(timeout 90 /bin/sh "$D/firewall.sh" undo 2>&1 </dev/null) || pend "the firewall keeps a rule of this run: $out"
fi
rename() { # from, to; mv of uutils 0.0.30 refuses a link over a link to a directory
	mv -fT -- "$1" "$2" 2>/dev/null || { [ -L "$1" ] && perl -e 'exit !rename $ARGV[0], $ARGV[1]' -- "$1" "$2" 2>/dev/null; }
}
put_back() { # step, path, was, target
	case $3 in
	absent) rm -f -- "$2" ;;
	file) cp -a -- "$D/saved/$1" "$2.virtrust-revert" && { sync "$2.virtrust-revert" 2>/dev/null || sync; } && mv -fT -- "$2.virtrust-revert" "$2" ;;
	link) rm -f -- "$2.virtrust-revert"; ln -s -- "$4" "$2.virtrust-revert" && rename "$2.virtrust-revert" "$2" ;;
	esac || { rm -f -- "$2.virtrust-revert"; pend "cannot put $2 back"; }
}
is_now() { # kind, path, digest or target
	case $1 in
	file) [ -f "$2" ] && [ ! -L "$2" ] && got=$(sha256sum <"$2") && [ "${got%% *}" = "$3" ] ;;
	link) [ -L "$2" ] && [ "$(readlink -- "$2")" = "$3" ] ;;
	gone) [ ! -e "$2" ] && [ ! -L "$2" ] ;;
	esac
}
is_prior() { # step, path, was, target
	case $3 in
	absent) [ ! -e "$2" ] && [ ! -L "$2" ] ;;
	file) [ -f "$2" ] && [ ! -L "$2" ] && cmp -s "$2" "$D/saved/$1" && [ "$(stat -c '%a %u %g' "$2")" = "$(stat -c '%a %u %g' "$D/saved/$1")" ] ;;
	link) [ -L "$2" ] && [ "$(readlink -- "$2")" = "$4" ] ;;
	esac
}
IFS=$nl
set -f
for l in $steps; do
	unset IFS
	set -- $l
	n=$2 kind=$3 p=$4
	case $kind in
	dir) rmdir -- "$p" 2>/dev/null ;;
	tree) case $p in */.virtrust/*/*) rm -rf -- "$p" ;; esac ;;
	file | link | gone)
		# step N kind PATH now X was W [TARGET]
		to=
		[ "$8" = link ] && to=${l#* was link }
		if is_prior "$n" "$p" "$8" "$to"; then :
		elif is_now "$kind" "$p" "$6"; then put_back "$n" "$p" "$8" "$to"
		else note "step $n: $p was changed by someone else and stays"; fi
		;;
	unit)
		[ "$5" = - ] || case " $daemons" in *" $5:"*) ;; *) daemons="$daemons$5:$9 " ;; esac
		# step N unit UNIT SERVICE was ENABLED ACTIVE RUNNING
		[ "$7" = disabled ] && systemctl --no-reload disable "$p" >/dev/null 2>&1 </dev/null
		[ "$7" = enabled ] && systemctl --no-reload enable "$p" >/dev/null 2>&1 </dev/null
		if [ "$5" = - ]; then
			# A service that is started by itself, not the socket of one.
			if [ "$8" != active ]; then
				tls_before= ended=$p
			elif ! systemctl is-active --quiet "$p"; then
				begun=$p
			fi
		elif [ "$8" = active ] && ! systemctl is-active --quiet "$p"; then
			service=$5 was_running=$9
			started=$p
		elif [ "$8" != active ]; then
			tls_before=
			service=$5 was_running=$9
			# At boot the unit may be queued and not yet active.
			if [ "$who" = boot ] || systemctl is-active --quiet "$p" || systemctl is-failed --quiet "$p"; then stopped=$p; fi
		fi
		;;
	consoles) consoles=yes ;;
	activate)
		# step N activate UNIT HOW was RUNNING
		case " $daemons" in *" $p:"*) ;; *) daemons="$daemons$p:$7 " ;; esac
		;;
	esac
	IFS=$nl
done
unset IFS
sync

set +f
bring() { # a service that ran before; it is not said that all is back while it is down
	timeout 60 systemctl start "$1" >/dev/null 2>&1 </dev/null && return
	# The start of somebody else, which ours became part of, may have failed.
	systemctl reset-failed "$1" >/dev/null 2>&1 </dev/null
	timeout 60 systemctl start "$1" >/dev/null 2>&1 </dev/null || pend "$1 does not come back"
}
job() { grep -h -o "async='[^']*'" /run/libvirt/qemu/*.xml 2>/dev/null | grep -q -v "'none'"; }
if [ "$who" = boot ]; then
	# The unit may be queued in this boot already; libvirt starts after us.
	[ -z "$stopped" ] || systemctl --no-block stop "$stopped" >/dev/null 2>&1 </dev/null
elif [ -n "$stopped" ]; then
	if systemctl is-active --quiet "$service" && job; then
		pend "a guest's job runs: $service still has $stopped open"
	else
		# In one transaction: a client that dials in between would start the
		# daemon with a socket for which there are no files any more.
		timeout 60 systemctl stop "$service" "$stopped" >/dev/null 2>&1 </dev/null
		systemctl reset-failed "$service" "$stopped" "${service%.service}.socket" >/dev/null 2>&1 </dev/null
		for s in "" -ro -admin; do timeout 60 systemctl start "${service%.service}$s.socket" >/dev/null 2>&1 </dev/null; done
		[ "$was_running" != active ] || bring "$service"
	fi
elif [ -n "$started" ]; then
	if systemctl is-active --quiet "$service" && job; then
		pend "a guest's job runs: $started is not open"
	else
		timeout 60 systemctl stop "$service" >/dev/null 2>&1 </dev/null
		timeout 60 systemctl start "$started" >/dev/null 2>&1 </dev/null
		[ "$was_running" != active ] || bring "$service"
	fi
fi
if [ -n "$ended" ] && [ "$who" != boot ]; then
	if job; then
		pend "a guest's job runs: $ended is not stopped"
	else
		timeout 60 systemctl stop "$ended" >/dev/null 2>&1 </dev/null
	fi
fi
[ "$who" = boot ] || for d in $daemons; do
	was_running=${d#*:} d=${d%%:*}
	# Done with its socket above.
	[ "$d" != "$ended" ] && [ "$d" != "${stopped:+$service}" ] && [ "$d" != "${started:+$service}" ] || continue
	# systemd may be at it again: a service that fails is started five times.
	i=0
	while case $(systemctl is-active "$d" 2>/dev/null) in *ing) [ $i -lt 60 ] ;; *) false ;; esac; do
		sleep 0.5
		i=$((i + 1))
	done
	case $(systemctl is-active "$d" 2>/dev/null) in
	active)
		# virtqemud has no listener whose files it could read again.
		if [ -n "$tls_before" ] && [ "$d" != virtqemud.service ] && ! reload "$d"; then
			if job; then
				pend "a guest's job runs and $d does not reload"
			else
				systemctl reset-failed "$d" >/dev/null 2>&1 </dev/null
				timeout 90 systemctl restart "$d" >/dev/null 2>&1 </dev/null || pend "$d does not come back"
			fi
		fi
		;;
	failed | inactive)
		systemctl reset-failed "$d" "${d%.service}.socket" >/dev/null 2>&1 </dev/null
		for s in "" -ro -admin -tls; do
			systemctl is-enabled --quiet "${d%.service}$s.socket" 2>/dev/null && timeout 60 systemctl start "${d%.service}$s.socket" >/dev/null 2>&1 </dev/null
		done
		[ "$was_running" != active ] || bring "$d"
		;;
	esac
done
[ -z "$begun" ] || [ "$who" = boot ] || systemctl is-active --quiet "$begun" || bring "$begun"
# Guests end with a reboot, and those that start read what lies there.
if [ -n "$consoles" ] && [ "$who" != boot ]; then
	for g in /run/libvirt/qemu/*.xml; do
		case $g in *"/*.xml") break ;; esac
		g=${g##*/} g=${g%.xml}
		console "$g"
		case $? in 1 | 3) note "the console of guest $g keeps its certificate: $(printf '%s' "$out" | tr '\n' ' ')" ;; esac
	done
fi
[ -z "$pending" ] || { sync; exit 1; }
note "reverted at $(date +%s)"
end
