package reach

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/integration/lab"
)

// documentedSudoers are the code blocks of docs/sudo.md that are for sudoers.
func documentedSudoers(t *testing.T) (sudo, sudoRS string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/sudo.md")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range regexp.MustCompile("(?s)\n\n```\n(.*?)```\n").FindAllStringSubmatch(string(page), -1) {
		if strings.Contains(m[1], "NOPASSWD") {
			found = append(found, m[1])
		}
	}
	if len(found) != 2 {
		t.Fatalf("docs/sudo.md has %d blocks for sudoers, want one for sudo and one for sudo-rs", len(found))
	}
	return found[0], found[1]
}

func sudoers(text string) string {
	return "cat >/etc/sudoers.d/deploy <<'END'\n" + text + "\nEND\nchmod 0440 /etc/sudoers.d/deploy\n"
}

// Each way of logging in that has to do with what happens after the login, on
// two hosts: one is entered as root, the other as deploy with sudo.
func TestLogin(t *testing.T) {
	lab.Require(t)
	bin := filepath.Join(t.TempDir(), "virtrust")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "github.com/virtrust/virtrust/cmd/virtrust")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building virtrust: %v\n%s", err, out)
	}
	l, err := lab.New(t.Context(), lab.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	hosts, err := l.Start(t.Context(), lab.HostSpec{Login: lab.LoginSudo}, lab.HostSpec{})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		if err := h.Unpack(t.Context(), "fish", "tcsh", "mksh", "locales", "sudo-rs", "rust-coreutils"); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("sudo", func(t *testing.T) {
		t.Parallel()
		s := newLoginSite(t, l, hosts[0], bin)
		s.on(t, "printf 'deploy:"+sudoPassword+"\\n' | chpasswd\n"+german)
		for _, w := range sudoWays(t) {
			s.try(t, w)
		}
		s.noPasswordLeft(t)
	})
	t.Run("root", func(t *testing.T) {
		t.Parallel()
		s := newLoginSite(t, l, hosts[1], bin)
		s.on(t, german)
		for _, w := range rootWays {
			s.try(t, w)
		}
	})
}

// german makes the locale, without setting it.
const german = "localedef -i de_DE -f UTF-8 de_DE.UTF-8\n"

const (
	setGerman   = "printf 'LANG=de_DE.UTF-8\\nLANGUAGE=de\\n' | tee /etc/default/locale >>/etc/environment\n"
	unsetGerman = "rm -f /etc/default/locale; sed -i '/^LANG/d' /etc/environment\n"
)

// noPasswordLeft looks for sudo's password where it must not be.
func (s *loginSite) noPasswordLeft(t *testing.T) {
	t.Helper()
	if out := s.on(t, "grep -rlF "+sudoPassword+" /etc /var/lib/virtrust /var/log /run/virtrust /tmp /home 2>/dev/null || :; journalctl -q --no-pager | grep -F "+sudoPassword+" || :"); out != "" {
		t.Errorf("sudo's password is on the host in %s", out)
	}
	out, err := exec.Command("grep", "-rlF", sudoPassword, s.dir).Output()
	if len(out) > 0 || err == nil {
		t.Errorf("sudo's password is in %s", out)
	}
}

func sudoWays(t *testing.T) []way {
	documented, documentedRS := documentedSudoers(t)
	const (
		sudo         = `become = "sudo"`
		sudoPassword = "become = \"sudo\"\n  become_password = \"env:VT_SUDO\""
		sudoWrong    = "become = \"sudo\"\n  become_password = \"env:VT_WRONG\""
		asks         = "deploy ALL=(ALL:ALL) ALL"
		asksNot      = "deploy ALL=(ALL:ALL) NOPASSWD: ALL"
		rust         = "mv /usr/bin/sudo /usr/bin/sudo.kept; chmod 4755 /usr/lib/cargo/bin/sudo; ln -s sudo-rs /usr/bin/sudo\n"
		noRust       = "mv -f /usr/bin/sudo.kept /usr/bin/sudo\n"
	)
	return []way{
		{name: "sudo without a password", set: sudoers(documented), ssh: sudo, says: "sudo"},
		{name: "sudo with a password, a lecture each time", set: sudoers("Defaults lecture=always\n" + asks), ssh: sudoPassword, says: "with a password"},
		{name: "sudo with a password, in German", set: sudoers(asks) + setGerman, undo: unsetGerman, ssh: sudoPassword},
		{name: "sudo that asks, and no password at hand", set: sudoers(asks) + setGerman, undo: unsetGerman, ssh: sudo, fails: "sudo asks for a password"},
		{name: "a wrong password", set: sudoers(asks), ssh: sudoWrong, fails: "the password is wrong"},
		{name: "sudo with requiretty", set: sudoers("Defaults requiretty\n" + asksNot), ssh: sudo, fails: "Defaults:deploy !requiretty"},
		{name: "a user who is no sudoer", set: sudoers(""), ssh: sudo, fails: "sudo"},
		{name: "sudo in a terminal of its own that records sessions", set: sudoers("Defaults use_pty, log_input, log_output\n" + asks), ssh: sudoPassword},
		{name: "sudo-rs without a password", set: sudoers(documentedRS) + rust, undo: noRust, ssh: sudo},
		{name: "sudo-rs with a password", set: sudoers(asks) + rust, undo: noRust, ssh: sudoPassword},
		{name: "sudo with a password, no forwarding, one session, a start-up file that prints",
			set:  sudoers(asks) + sshd(`DisableForwarding yes\nMaxSessions 1`) + "sed -i '1i echo hello; echo there >&2' /home/deploy/.bashrc\n",
			undo: plainSSH + "sed -i 1d /home/deploy/.bashrc\n",
			ssh:  sudoPassword, says: "a start-up file prints: hello"},
		{name: "sudo from fish", set: sudoers(asks) + "usermod -s /usr/bin/fish deploy\n", undo: "usermod -s /bin/bash deploy\n", ssh: sudoPassword, says: "login shell /usr/bin/fish"},
		{name: "sudo from tcsh", set: sudoers(documented) + "usermod -s /usr/bin/tcsh deploy\n", undo: "usermod -s /bin/bash deploy\n", ssh: sudo, says: "login shell /usr/bin/tcsh"},
		{name: "no shell", set: "usermod -s /usr/sbin/nologin deploy\n", undo: "usermod -s /bin/bash deploy\n", ssh: sudo, fails: "shell"},
	}
}

// shadow puts links to another program's tools where scripts look first.
func shadow(tools string) string {
	return "mkdir -p /var/tmp/shadow; for t in " + tools + "; do [ -e /usr/sbin/${t##*/} ] || { ln -s $t /usr/sbin/${t##*/}; echo /usr/sbin/${t##*/} >>/var/tmp/shadow/made; }; done\n"
}

const unshadow = "xargs rm -f </var/tmp/shadow/made; rm -rf /var/tmp/shadow\n"

var rootWays = []way{
	{name: "root", set: ":", says: "the subsystem answers"},
	{name: "fish that prints", set: "usermod -s /usr/bin/fish root; mkdir -p /root/.config/fish; echo 'echo hello' >/root/.config/fish/config.fish\n",
		undo: "usermod -s /bin/bash root; rm -r /root/.config/fish\n", says: "a start-up file prints: hello"},
	{name: "tcsh that prints", set: "usermod -s /usr/bin/tcsh root; echo 'echo hello' >/root/.cshrc\n",
		undo: "usermod -s /bin/bash root; rm /root/.cshrc\n", says: "files go through a script"},
	{name: "bash that prints, a banner and a message of the day",
		set: "mv /root/.bashrc /root/.bashrc.kept 2>/dev/null || :; printf 'printf hello\\necho there >&2\\n' >/root/.bashrc; echo 'Welcome, all is logged' | tee /etc/motd >/etc/issue.net\n" +
			sshd(`Banner /etc/issue.net\nPrintMotd yes`),
		undo: "rm /root/.bashrc; mv /root/.bashrc.kept /root/.bashrc 2>/dev/null || :; : >/etc/motd\n" + plainSSH, says: "files go through a script"},
	{name: "no SFTP", set: "sed -i 's/^Subsystem/#Subsystem/' /etc/ssh/sshd_config\n" + restartSSH,
		undo: "sed -i 's/^#Subsystem/Subsystem/' /etc/ssh/sshd_config\n" + restartSSH, says: "sshd has no SFTP subsystem"},
	{name: "a forced command that runs what was asked", set: `printf '#!/bin/sh\nlogger way "$SSH_ORIGINAL_COMMAND"\nexec /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n' >/usr/local/bin/way; chmod 755 /usr/local/bin/way` + "\n" + sshd("ForceCommand /usr/local/bin/way"), undo: plainSSH},
	{name: "a forced command that does not", set: sshd("ForceCommand echo go away"), undo: plainSSH, fails: "ForceCommand"},
	{name: "no forwarding", set: sshd("AllowTcpForwarding no"), undo: plainSSH, says: "sshd forbids it"},
	{name: "no forwarding, no openssl", set: "mv /usr/bin/openssl /usr/bin/openssl.kept\n" + sshd("DisableForwarding yes"), undo: "mv /usr/bin/openssl.kept /usr/bin/openssl\n" + plainSSH, says: "sshd forbids it"},
	{name: "one session at a time", set: sshd("MaxSessions 1"), undo: plainSSH},
	{name: "no session", set: sshd("MaxSessions 0"), undo: plainSSH, fails: "MaxSessions"},
	{name: "noexec /tmp, in German", set: "mount -t tmpfs -o noexec,nosuid tmpfs /tmp; mount -t tmpfs -o noexec tmpfs /var/tmp\n" + setGerman, undo: unsetGerman + "umount /tmp /var/tmp\n"},
	{name: "busybox first in PATH", set: "mkdir -p /usr/local/bin; busybox --install -s /usr/local/bin; printf 'PATH=/usr/local/bin:/usr/bin:/bin\\n' >>/etc/environment\n",
		undo: "/usr/bin/find /usr/local/bin -type l -delete; sed -i '/^PATH/d' /etc/environment\n"},
	{name: "busybox in place of coreutils", set: shadow("$(busybox --list | grep -x -E 'base64|basename|cat|chgrp|chmod|chown|cmp|cp|cut|date|dirname|echo|env|find|grep|head|id|ln|ls|mkdir|mktemp|mv|printf|readlink|rm|rmdir|sed|sha256sum|sleep|sort|stat|sync|tail|timeout|touch|tr|uname|wc|xargs' | sed 's|^|/var/tmp/busybox/|')") +
		"mkdir -p /var/tmp/busybox; busybox --install -s /var/tmp/busybox\n", undo: unshadow + "rm -rf /var/tmp/busybox\n"},
	{name: "uutils in place of coreutils", set: shadow("/usr/lib/cargo/bin/coreutils/*"), undo: unshadow},
	{name: "mksh as /bin/sh and login shell", set: "ln -sfn mksh /usr/bin/sh; usermod -s /bin/mksh root\n", undo: "ln -sfn dash /usr/bin/sh; usermod -s /bin/bash root\n", says: "/bin/sh is /usr/bin/mksh"},
	{name: "bash as /bin/sh", set: "ln -sfn bash /usr/bin/sh\n", undo: "ln -sfn dash /usr/bin/sh\n", says: "/bin/sh is /usr/bin/bash"},
	{name: "busybox as /bin/sh", set: "ln -sfn busybox /usr/bin/sh\n", undo: "ln -sfn dash /usr/bin/sh\n", says: "/bin/sh is /usr/bin/busybox"},
}
