package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/integration/lab"
)

// The demonstration runs to its end, tells what it should, and goes without a
// trace.
func TestDemo(t *testing.T) {
	lab.Require(t)
	t.Chdir("../..")
	labID, folder, binary = "demotest", "demo-test", filepath.Join(t.TempDir(), "virtrust")
	t.Cleanup(func() {
		if err := remove(); err != nil {
			t.Error(err)
		}
	})
	story := told(t, func() error { return up(t.Context()) })
	for _, want := range []string{
		"3 hosts change", "Complete: 3 changed", "Nothing to do",
		"On the wire: a stream that begins with QEVM", "On the wire: no stream that begins with QEVM",
		"kvm1 <-> kvm3", "make demo-down",
	} {
		if !strings.Contains(story, want) {
			t.Errorf("the story does not tell %q", want)
		}
	}
	if n := strings.Count(story, "virsh -c qemu+tls://"); n != 6 {
		t.Errorf("%d dials between the hosts", n)
	}
	if t.Failed() {
		t.Log(story)
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", folder, err)
	}
	if _, err := lab.Open(labID, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lab is still there: %v", err)
	}
}

// told runs something and gives what it wrote to standard output.
func told(t *testing.T, do func() error) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	text := make(chan string)
	go func() {
		b, _ := io.ReadAll(r)
		text <- string(b)
	}()
	stdout := os.Stdout
	os.Stdout = w
	err = do()
	os.Stdout = stdout
	w.Close()
	story := <-text
	if err != nil {
		t.Fatalf("%v\n%s", err, story)
	}
	return story
}
