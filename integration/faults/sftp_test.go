package faults

import (
	"os"
	"testing"
)

// setUpSFTP makes sshd start the failing SFTP server.
func setUpSFTP(t testing.TB, sites []*site) {
	t.Helper()
	content, err := os.ReadFile(bin.sftp)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sites {
		if err := s.host.WriteFile(t.Context(), "/var/tmp/sftp-server", content, 0o755); err != nil {
			t.Fatal(err)
		}
		s.must("sed -i 's,^Subsystem.*,Subsystem sftp /var/tmp/sftp-server,' /etc/ssh/sshd_config; systemctl restart ssh.service; sleep 1")
	}
}
