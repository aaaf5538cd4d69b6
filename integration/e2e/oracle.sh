# Asks this host's libvirt and QEMU what they make of every case below
# /root/oracle: one line "CASE CONSUMER ok|no MESSAGE" for each. Before it come
# perfect, a case that libvirtd starts with, and every: each how many cases it is
# started anew, 0 for never.
cd /root/oracle
systemctl stop libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd-tls.socket 2>/dev/null
mkdir -p /run/oracle /etc/pki/CA /etc/pki/libvirt/private
port=17000 hex=4268
tell() { # case, consumer, verdict, message
	printf '%s %s %s %s\n' "$1" "$2" "$3" "$(printf %s "$4" | tr '\n' ' ' | cut -c1-300)"
}
listens() { grep -q " 0100007F:$hex 00000000:0000 0A" /proc/net/tcp; }
files() { # case: its files are where libvirtd looks by default
	for f in CA/cacert.pem=ca.pem libvirt/servercert.pem=cert.pem libvirt/private/serverkey.pem=key.pem; do
		if [ -e "$1/${f#*=}" ]; then ln -sf "$PWD/$1/${f#*=}" "/etc/pki/${f%=*}"; else rm -f "/etc/pki/${f%=*}"; fi
	done
}
start() { # case: libvirtd starts with it and listens, or it ends and says why
	files $1
	libvirtd --listen -f /run/oracle/conf -p /run/oracle/pid -t 120 >/run/oracle/said 2>&1 </dev/null &
	pid=$! verdict=hung n=0
	while [ $n -lt 1000 ]; do
		if listens; then verdict=ok; break; fi
		if ! kill -0 $pid 2>/dev/null; then verdict=no; break; fi
		sleep 0.01
		n=$((n + 1))
	done
}
stop() {
	kill -9 $pid 2>/dev/null
	wait $pid 2>/dev/null
	n=0
	while listens && [ $n -lt 500 ]; do sleep 0.01; n=$((n + 1)); done
}
started=0
server() { # case: a running libvirtd takes it, or keeps what it has; some are also started with
	started=$((started + 1))
	if [ "$every" != 0 ] && [ $((started % every)) = 0 ]; then
		stop
		start $1
		tell "$1" start $verdict "$(grep error: /run/oracle/said)"
		stop
		start $perfect
	fi
	files $1
	if out=$(timeout 30 virt-admin -c "libvirtd:///system?socket=/run/oracle/libvirt-admin-sock" server-update-tls libvirtd 2>&1 </dev/null); then
		tell "$1" libvirt ok ""
	else
		tell "$1" libvirt no "$out"
	fi
}
client() { # case: virsh gets as far as the connection, which is refused
	ln -sf ca.pem $1/cacert.pem
	[ ! -e $1/cert.pem ] || { ln -sf cert.pem $1/clientcert.pem; ln -sf key.pem $1/clientkey.pem; }
	out=$(timeout 20 virsh -q -c "qemu+tls://127.0.0.1:1/system?pkipath=$PWD/$1" hostname 2>&1 </dev/null)
	case $out in
	*"unable to connect to server"*) tell "$1" libvirt ok "" ;;
	*) tell "$1" libvirt no "$out" ;;
	esac
}
qemu() { # case, role
	mkdir -p $1/qemu
	[ ! -e $1/ca.pem ] || ln -sf ../ca.pem $1/qemu/ca-cert.pem
	[ ! -e $1/cert.pem ] || { ln -sf ../cert.pem $1/qemu/$2-cert.pem; ln -sf ../key.pem $1/qemu/$2-key.pem; }
	out=$(echo quit | timeout 20 qemu-system-x86_64 -M none -nodefaults -display none -monitor stdio -object "tls-creds-x509,id=t,dir=$PWD/$1/qemu,endpoint=$2,verify-peer=on" 2>&1)
	case $out in
	*"qemu-system-x86_64:"*) tell "$1" qemu no "$(printf '%s' "$out" | grep qemu-system-x86_64:)" ;;
	*"(qemu)"*) tell "$1" qemu ok "" ;;
	*) tell "$1" qemu hung "$out" ;;
	esac
}
printf 'listen_tls = 1\nlisten_addr = "127.0.0.1"\ntls_port = "%s"\nunix_sock_dir = "/run/oracle"\nlog_outputs = "3:stderr"\n' $port >/run/oracle/conf
start $perfect
[ $verdict = ok ] || { echo "libvirtd does not start with $perfect: $(cat /run/oracle/said)"; exit 1; }
for c in [0-9]*; do
	role=$(cat $c/role)
	$role $c
	qemu $c $role
done
stop
