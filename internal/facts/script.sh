# Answers the queries in the positional parameters. Each is one letter
# (s stat, c content, k key, d dir, u unit, f settings to follow, w firewall,
# v VNC consoles, t listening ports, n addresses) and a subject.
# Output is framed: a line "NONCE KIND LENGTH [ARGUMENT]", LENGTH bytes, a newline.
LC_ALL=C; PATH=/usr/sbin:/usr/bin:/sbin:/bin; export LC_ALL PATH
umask 077
set -f
nl='
'
say() { printf '%s %s %d %s\n%s\n' "$N" "$1" "${#3}" "$2" "$3"; }
line() { x=; { IFS= read -r x <"$2"; } 2>/dev/null; say "$1" '' "$x"; }

say version '' "$V"
# Read, not run: each program costs a host about a millisecond.
uid=
{ while read -r k x u l; do [ "$k" != Uid: ] || { uid=$u; break; }; done; } 2>/dev/null </proc/self/status
say uid '' "${uid:-$(id -u)}"
say clock '' "$(date +%s.%N)"
line uptime /proc/uptime
line boot /proc/sys/kernel/random/boot_id
line machine /etc/machine-id
line hostname /proc/sys/kernel/hostname
line init /proc/1/comm
line selinux /sys/fs/selinux/enforce
line apparmor /sys/module/apparmor/parameters/enabled

tools=
for t in flock openssl certtool virt-admin virsh libvirtd virtqemud virtproxyd systemctl systemd-run sync stat sha256sum restorecon matchpathcon lsattr ip; do
	command -v "$t" >/dev/null 2>&1 && tools="$tools $t"
done
say tools '' "$tools"

# The records themselves, because dpkg-query takes four times as long: a
# record's version is within its first lines.
if [ -r /var/lib/dpkg/status ]; then
	say packages status "$(grep -A 14 -E '^Package: (libvirt-daemon|libvirt-daemon-system|libvirt-clients|qemu-system-x86|openssl|gnutls-bin|openssh-server)$' /var/lib/dpkg/status)"
elif command -v dpkg-query >/dev/null 2>&1; then
	say packages dpkg "$(dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' libvirt-daemon libvirt-daemon-system libvirt-clients qemu-system-x86 openssl gnutls-bin openssh-server 2>/dev/null)"
elif command -v rpm >/dev/null 2>&1; then
	say packages rpm "$(rpm -q --qf 'installed %{NAME} %{VERSION}-%{RELEASE}\n' libvirt-daemon libvirt-daemon-driver-qemu libvirt-client qemu-kvm-core qemu-system-x86-core qemu-x86 openssl gnutls-utils openssh-server 2>/dev/null)"
fi

say space '' "$(stat -f -c '%a %S %c %d %n' / /etc /var/lib /run 2>/dev/null)"
ro=
for d in /etc /var/lib /run; do [ -w "$d" ] || ro="$ro $d"; done
say readonly '' "$ro"

set +f
jobs=
for g in /run/libvirt/qemu/*.xml; do
	[ -f "$g" ] && jobs=yes && break
done
[ -n "$jobs" ] && say guests '' "$(grep -H -o -E "<domstatus state='[a-z]*'|async='[^']*'" /run/libvirt/qemu/*.xml 2>/dev/null | head -n 20000)"
set -f

paths= deep= units= keys= dirs= links= wanted=' '
add() { # letter, path, depth
	case $wanted in *" $1$2$nl"*) return ;; esac
	wanted="$wanted $1$2$nl"
	paths="$paths$2$nl"
	[ "$1" = c ] && deep="$deep$2$nl"
	if [ -L "$2" ]; then
		links="$links$1$3 $2$nl"
	elif [ "$1" = k ]; then
		keys="$keys$2$nl"
	fi
}
count=0 follow= wall= active= consoles= ports= nics=
for a in "$@"; do
	p=${a#?}
	case $a in
	s*) add s "$p" 0 ;;
	c*) add c "$p" 0 ;;
	k*) add k "$p" 0 ;;
	d*) add s "$p" 0; dirs="$dirs$p$nl" ;;
	u*) units="$units$p$nl" ;;
	w*) wall=yes ;;
	v*) consoles=$jobs ;;
	t*) ports=yes ;;
	n*) nics=yes ;;
	f*) follow="$follow$p$nl" ;;
	esac
done

if [ -n "$units" ] && [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; then
	IFS=$nl
	show=$(systemctl show -p Id,LoadState,ActiveState,SubState,UnitFileState,MainPID,InvocationID,ExecMainStartTimestampMonotonic,Listen,ExecStart,Environment,EnvironmentFiles,NeedDaemonReload -- $units 2>/dev/null)
	say units '' "$show"
	for l in $show; do
		case $l in
		Id=*) id=${l#*=} ;;
		ActiveState=active) active="$active$id " ;;
		EnvironmentFiles=/etc/*) e=${l#*=}; e=${e%%" ("*}; add c "$e" 0 ;;
		MainPID=0 | MainPID=) ;;
		MainPID=*) say process "${l#*=}" "$(tr '\0' '\n' <"/proc/${l#*=}/cmdline" 2>/dev/null)" ;;
		esac
	done
	unset IFS
fi

# The kernel walks every socket for /proc/net/tcp, and the listening ones for ss.
if [ -z "$ports" ]; then
	:
elif command -v ss >/dev/null 2>&1; then
	say sockets ss "$(ss -Hltn 2>/dev/null)"
else
	say sockets '' "$(grep -h -m 1000 ' 0A ' /proc/net/tcp /proc/net/tcp6 2>/dev/null)"
fi
if [ -n "$nics" ] && command -v ip >/dev/null 2>&1; then
	say addresses '' "$(ip -o addr show 2>/dev/null)"
fi
if [ -n "$consoles" ]; then
	set +f
	say consoles '' "$(grep -H -o -E "<graphics type='[a-z-]*'[^>]*>|<listen type='socket'[^>]*>" /run/libvirt/qemu/*.xml 2>/dev/null | head -n 20000)"
	set -f
fi
# Only a firewall that is active is asked: firewalld over D-Bus, because its own
# client takes twenty times as long.
if [ -n "$wall" ]; then
	m=
	for u in firewalld ufw nftables iptables ip6tables netfilter-persistent; do
		case " $active" in *" $u.service "*) m="$m$u " ;; esac
	done
	say firewall managers "${m% }"
	case " $m" in *" firewalld "*)
		fw() { # interface, method, arguments
			i=$1
			shift
			busctl --json=short --timeout=5 call org.fedoraproject.FirewallD1 /org/fedoraproject/FirewallD1 "org.fedoraproject.FirewallD1$i" "$@" </dev/null 2>/dev/null
		}
		d=$(fw '' getDefaultZone)
		say firewall default "$d"
		z=$(fw .zone getActiveZones)
		say firewall active "$z"
		d=${d#*'["'}
		zones=' '
		d=${d%%'"'*}
		for z in "$d" $(printf '%s\n' "$z" | grep -o '"[A-Za-z0-9_-]*":{' | tr -d '":{' | head -n 50); do
			case $z in '' | *[!A-Za-z0-9_-]*) continue ;; esac
			case $zones in *" $z "*) continue ;; esac
			zones="$zones$z "
			say firewall "zone:$z" "$(fw .zone getZoneSettings2 s "$z")"
			add c "/etc/firewalld/zones/$z.xml" 0
		done
		;;
	esac
	case " $m" in *" ufw "* | *" iptables "* | *" ip6tables "* | *" netfilter-persistent "*)
		say firewall iptables "$(iptables-save -t filter 2>/dev/null | head -c "$C")"
		say firewall ip6tables "$(ip6tables-save -t filter 2>/dev/null | head -c "$C")"
		;;
	esac
	case " $m" in *" nftables "*) say firewall nft "$(nft -j -t list ruleset 2>/dev/null | head -c "$C")" ;; esac
fi
# A setting's value is followed only where it is an absolute path below /etc.
# One search through all files for all settings.
IFS=$nl
names= files=
for f in $follow; do
	k=${f%% *} p=${f#* }
	case "|$names" in *"|$k|"*) ;; *) names="$names$k|" ;; esac
	case "$nl$files" in *"$nl$p$nl"*) ;; *) files="$files$p$nl" ;; esac
done
if [ -n "$files" ]; then
	for l in $(grep -H -m 50 -E "^[[:space:]]*(${names%|})[[:space:]]*=[[:space:]]*[\"']/etc/[^\"']*[\"']" $files 2>/dev/null); do
		p=${l%%:*} l=${l#*:}
		k=${l%%=*} t=${l#*=}
		IFS=" 	"
		set -- $k
		IFS=$nl
		case "$nl$follow" in *"$nl$1 $p$nl"*) ;; *) continue ;; esac
		t=/etc/${t#*/etc/}
		t=${t%%[\"\']*}
		count=$((count + 1))
		case $1 in key_file) w=k ;; *) w=c ;; esac
		[ "$count" -le "$M" ] && add "$w" "$t" 1
	done
fi

# Links are followed a level at a time, with one readlink for all of a level. A
# target with a line break would shift the others: then each has its own.
while [ -n "$links" ]; do
	todo=$links links=
	set --
	for l in $todo; do set -- "$@" "${l#* }"; done
	each=$#
	set -- $(readlink -- "$@" 2>/dev/null)
	[ $# = "$each" ] || each=
	for l in $todo; do
		p=${l#* } w=${l%% *}
		if [ -n "$each" ]; then
			t=$1
			shift
		else
			t=$(readlink -- "$p") || continue
		fi
		say link "$p" "$t"
		case $t in
		*"$nl"*) continue ;;
		/*) ;;
		*) t=${p%/*}/$t ;;
		esac
		case $t in /etc/* | /var/lib/virtrust/*) ;; *) continue ;; esac
		n=${w#?}
		[ "$n" -lt "$D" ] || continue
		count=$((count + 1))
		[ "$count" -le "$M" ] || continue
		add "${w%"$n"}" "$t" $((n + 1))
	done
done

st=$(stat -c '%f %u %g %s %Y %z %i %h %d %U %G %n' -- $paths 2>/dev/null)
say stat '' "$st"

list= total=0
for l in $st; do
	case $l in 8*) ;; *) continue ;; esac
	unset IFS
	p=${l#* * * * * * * * * * * * * }
	set -- $l
	IFS=$nl
	case "$nl$deep" in *"$nl$p$nl"*) ;; *) continue ;; esac
	[ "$4" -gt 0 ] && [ "$4" -le "$C" ] || continue
	list="$list$p$nl"
	total=$((total + $4))
done
say order '' "$list"
if [ -n "$list" ]; then
	printf '%s content %d \n' "$N" "$total"
	cat -- $list 2>/dev/null
	printf '\n'
fi

for k in $keys; do
	[ -f "$k" ] || continue
	# certtool starts in half of openssl's time, and says the same.
	o=
	if command -v certtool >/dev/null 2>&1; then
		o=$(certtool --load-privkey "$k" --pubkey-info </dev/null 2>/dev/null)
	fi
	case $o in
	*"-----BEGIN PUBLIC KEY"*) o="-----BEGIN${o#*-----BEGIN}" ;;
	*) o=$(openssl pkey -in "$k" -passin pass: -pubout </dev/null 2>/dev/null) ;;
	esac
	say key "$k" "$o"
done

set +f
for d in $dirs; do
	[ -d "$d" ] || continue
	n=0
	for e in "$d"/* "$d"/.[!.]*; do
		[ -e "$e" ] || [ -L "$e" ] || continue
		n=$((n + 1))
		[ "$n" -le "$E" ] || break
		say entry "$d" "${e##*/}"
	done
done
set -f
unset IFS
say end '' ''
