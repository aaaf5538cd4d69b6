
# Changes the rules of one run: check, do NUMBER..., undo, keep. What stands
# above names them: rule N sets w (allow or close), B backend, P place, f family,
# n name, s source, a and z the first and last port. Nothing is ever flushed or
# reloaded, and no rule of others is touched.
LC_ALL=C; PATH=/usr/sbin:/usr/bin:/sbin:/bin; export LC_ALL PATH
umask 077
verdict=accept target=ACCEPT first=-I last=-A
FI=org.fedoraproject.FirewallD1 FO=/org/fedoraproject/FirewallD1
bus() { busctl --timeout=20 call "$FI" "$@" </dev/null; }
range() { if [ "$a" = "$z" ]; then echo "$a"; else echo "$a$1$z"; fi; }
load() {
	rule "$1"
	chain=INPUT tool=iptables
	[ "$f" = 4 ] || tool=ip6tables
	[ "$B" != ufw ] || { [ "$f" = 4 ] && chain=ufw-user-input || chain=ufw6-user-input; }
}
rich() { printf 'rule priority="%s" family="ipv%s" source address="%s" port port="%s" protocol="tcp" %s' "$priority" "$f" "$s" "$(range -)" "$verdict"; }
marked() { "$tool" -w 10 "$1" "$chain" -s "$s" -p tcp -m tcp --dport "$(range :)" -m comment --comment "virtrust:$n" -j "$target"; }
plain() { # as ufw loads it
	if [ "$a" = "$z" ]; then "$tool" -w 10 "$1" "$chain" -s "$s" -p tcp -m tcp --dport "$a" -j "$target"
	else "$tool" -w 10 "$1" "$chain" -s "$s" -p tcp -m multiport --dports "$a:$z" -j "$target"; fi
}
ip() { if [ "$f" = 4 ]; then echo ip; else echo ip6; fi; }
handles() { nft -a list chain $P | grep -F "saddr $s tcp dport $(range -) $verdict comment \"virtrust:$n\" # handle " | sed 's/.*# handle //'; }
live() {
	case $B in
	firewalld) [ "$(bus "$FO" "$FI.zone" queryRichRule ss "$P" "$(rich)" 2>/dev/null)" = "b true" ] ;;
	ufw) marked -C >/dev/null 2>&1 || plain -C >/dev/null 2>&1 ;;
	iptables) marked -C >/dev/null 2>&1 ;;
	nftables) [ -n "$(handles 2>/dev/null)" ] ;;
	esac
}
add() {
	case $B in
	firewalld) bus "$FO" "$FI.zone" addRichRule ssi "$P" "$(rich)" 0 >/dev/null ;;
	ufw) if [ "$w" = allow ]; then marked "$last"; else plain "$last"; fi ;;
	iptables) marked "$first" ;;
	nftables) nft insert rule $P "$(ip)" saddr "$s" tcp dport "$(range -)" "$verdict" comment "\"virtrust:$n\"" ;;
	esac
}
del() {
	case $B in
	firewalld) bus "$FO" "$FI.zone" removeRichRule ss "$P" "$(rich)" >/dev/null ;;
	ufw) marked -D 2>/dev/null || plain -D ;;
	iptables) marked -D ;;
	nftables) for h in $(handles); do nft delete rule $P handle "$h" || return 1; done ;;
	esac
}
last_for_good() { # what a reboot brings back, where the owner writes its own files
	case $B in
	firewalld)
		o=$(bus "$FO/config" "$FI.config" getZoneByName s "$P") || return 1
		o=${o#*'"'} o=${o%'"'*}
		kept=$(bus "$o" "$FI.config.zone" queryRichRule s "$(rich)") || return 1
		case $w$kept in
		"allowb false") bus "$o" "$FI.config.zone" addRichRule s "$(rich)" >/dev/null ;;
		"closeb true") bus "$o" "$FI.config.zone" removeRichRule s "$(rich)" >/dev/null ;;
		esac
		;;
	ufw)
		if [ "$w" = close ]; then
			ufw delete allow proto tcp from "$s" to any port "$(range :)" >/dev/null
			return
		fi
		ufw allow proto tcp from "$s" to any port "$(range :)" comment "virtrust:$n" >/dev/null || return 1
		# From here ufw's own live rule carries it, if ufw made one.
		if plain -C >/dev/null 2>&1; then marked -D >/dev/null 2>&1; fi
		return 0
		;;
	esac
}
owns() {
	if [ "$B" != firewalld ] && systemctl is-active --quiet firewalld.service; then return 1; fi
	case $B in
	firewalld) systemctl is-active --quiet firewalld.service ;;
	ufw) grep -qi '^[[:space:]]*ENABLED=.*yes' /etc/ufw/ufw.conf && "$tool" -w 10 -S "$chain" >/dev/null 2>&1 ;;
	nftables) systemctl is-active --quiet nftables.service && nft list chain $P >/dev/null 2>&1 ;;
	iptables) "$tool" -w 10 -S "$chain" >/dev/null 2>&1 ;;
	esac
}
unchanged() { # path, sha256
	got=$(sha256sum <"$1") && [ "${got%% *}" = "$2" ]
}
valid() { # number, path
	case $2 in
	*nft*) nft -c -f "$D/keep-$1" ;;
	*v6 | *ip6tables) ip6tables-restore --test <"$D/keep-$1" ;;
	*) iptables-restore --test <"$D/keep-$1" ;;
	esac
}
file_check() {
	unchanged "$2" "$3" || { echo "moved: $2 has other content"; exit 1; }
	valid "$1" "$2" || { echo "$2 would not load with the new rules"; exit 1; }
}
file_keep() {
	unchanged "$2" "$3" || { echo "$2 was changed by someone else"; bad=1; return; }
	cp -a -- "$2" "$2.virtrust-new" && cat <"$D/keep-$1" >"$2.virtrust-new" && { sync "$2.virtrust-new" 2>/dev/null || sync; } && mv -fT -- "$2.virtrust-new" "$2" && { sync "${2%/*}" 2>/dev/null || sync; } ||
		{ rm -f -- "$2.virtrust-new"; echo "$2 cannot be written"; bad=1; }
}
verb=$1
shift
bad=
case $verb in
check)
	for r in $rules; do
		load "$r"
		owns || { echo "moved: $B does not own this host's firewall any more${P:+, or $P is gone}"; exit 1; }
	done
	files file_check
	;;
do)
	for r in "$@"; do
		load "$r"
		case $w in
		allow) live && continue ;;
		close) live || continue ;;
		esac
		# Before the rule: what is listed is undone, and only that.
		echo "$r" >>"$D/walls" || exit 1
		if [ "$w" = allow ]; then add; else del; fi || exit 1
	done
	;;
undo)
	[ -s "$D/walls" ] || exit 0
	todo=
	while read -r r; do todo="$r $todo"; done <"$D/walls"
	for r in $todo; do
		load "$r"
		case $w in
		allow) ! live || del || bad=1 ;;
		close) live || add || bad=1 ;;
		esac
	done
	[ -n "$bad" ] || rm -f "$D/walls"
	;;
keep)
	for r in $rules; do
		load "$r"
		last_for_good || { echo "rule $n for $s cannot be kept"; bad=1; }
	done
	files file_keep
	rm -f "$D/walls"
	;;
esac
[ -z "$bad" ]
