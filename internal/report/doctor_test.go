package report_test

import (
	"bytes"
	"testing"

	"github.com/virtrust/virtrust/internal/report"
)

func TestDoctor(t *testing.T) {
	visits := []report.Visit{
		{Host: "kvm1", Address: "10.0.0.11", Steps: []report.Step{
			{Phase: "name", State: report.StepOK, Found: "an address, nothing to look up"},
			{Phase: "tcp", State: report.StepOK, Seconds: 0.0123, Found: "10.0.0.11:22"},
			{Phase: "shell", State: report.StepNote, Seconds: 1.5, Found: "a start-up file prints: \x1b[2J", Hint: "harmless"},
		}},
		{Host: "kvm2", Address: "kvm2.example.com", Steps: []report.Step{
			{Phase: "name", State: report.StepFailed, Class: "dns", Seconds: 0.002, Found: "no such host", Hint: "check the host's address"},
			{Phase: "tcp", State: report.StepSkipped}, {Phase: "shell", State: report.StepSkipped},
		}},
	}
	if !visits[0].OK() || visits[1].OK() {
		t.Error("a note is no failure, and a failure is one")
	}
	var b bytes.Buffer
	if err := report.Doctor(&b, visits, report.Options{Width: 80}); err != nil {
		t.Fatal(err)
	}
	const want = `kvm1  10.0.0.11
  ok    name            an address, nothing to look up
  ok    tcp    12.3 ms  10.0.0.11:22
  note  shell   1.50 s  a start-up file prints: \x1b[2J
                        do: harmless

kvm2  kvm2.example.com
  failed     name   2.0 ms  dns: no such host
                            do: check the host's address
  not tried  tcp, shell

1 of 2 hosts cannot be worked on.
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}
