# Ends a transaction. Called by generated lines.
D=$S/run-$R
state() { # what the journal says of this run; what is not armed was not switched
	if [ ! -f "$D/journal" ]; then echo untouched
	elif grep -q '^committed' "$D/journal"; then echo committed
	elif grep -q '^reverted' "$D/journal"; then echo reverted
	elif [ "$D" = "$(cat "$S/armed" 2>/dev/null)" ]; then echo armed
	else echo untouched; fi
}
prune() { # tree, generation kept beside the current one
	cur=$(readlink -- "$1/current") || return 0
	keep=
	for g in $(ls -t -- "$1"); do
		case $g in current | *[!0-9a]*) continue ;; esac
		[ "$g" = "$cur" ] && continue
		if [ -z "$keep" ]; then keep=$g; continue; fi
		rm -rf -- "$1/$g"
	done
}
loads= units=
loaded() { # unit, item, digest
	i=$(systemctl show -p InvocationID --value "$1" 2>/dev/null)
	units="$units $1"
	loads="$loads$1 ${i:-none} $2 $3
"
}
keep_loaded() { # what other invocations recorded of the same items is dropped
	[ -n "$loads" ] || return 0
	if [ -f "$S/loaded" ]; then
		while read -r u i item d; do
			[ "$i" = "$(systemctl show -p InvocationID --value "$u" 2>/dev/null)" ] || continue
			case $loads in *"$u $i $item "*) ;; *) loads="$loads$u $i $item $d
" ;; esac
		done <"$S/loaded"
	fi
	printf '%s' "$loads" >"$S/loaded.new" && mv -f "$S/loaded.new" "$S/loaded"
}
keep_ports() { # rules that were proved last from now on
	[ -f "$D/firewall.sh" ] || return 0
	if out=$(timeout 120 /bin/sh "$D/firewall.sh" keep 2>&1 </dev/null); then
		journal "permanent at $(date +%s)"
	else
		journal "not permanent: $out"
		say notkept '' "$out"
	fi
}
sweep() { # staging directories of this run
	for d in "$@"; do case $d in */.virtrust-"$R") rm -rf -- "$d" ;; esac; done
	# What follows is another run's when that has taken the lease.
	[ -z "$lrun" ] || [ "$lrun" = "$R" ] || return 0
	unstage
	# The first transaction of this run is undone together with the second.
	first=$R
	case $R in *-[2-9]) first=${R%-?} ;; esac
	for d in "$S"/run-*; do
		[ "$d" = "$D" ] || [ "$d" = "$S/run-$first" ] || [ "$(readlink -- "$S/journal")" = "${d##*/}/journal" ] || rm -rf -- "$d"
	done
	[ -f "$D/journal" ] || rm -rf -- "$D"
}
unlease() { # the fence stays and goes on growing
	grep -qsx "run $R" "$L/lease" && sed -n '/^fence /p' "$L/lease" | put_lease
	return 0
}
