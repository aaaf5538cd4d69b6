package facts

import (
	"reflect"
	"testing"
)

func TestConsoles(t *testing.T) {
	const dir = "/run/libvirt/qemu/"
	h := &Host{}
	h.consoles(dir + `a.xml:<graphics type='vnc' port='5900' autoport='yes' websocketGenerated='no' listen='127.0.0.1'>
` + dir + `all.xml:<graphics type='vnc' port='5901' autoport='yes' listen='0.0.0.0'>
` + dir + `six.xml:<graphics type='vnc' port='5902' listen='::'>
` + dir + `sock.xml:<graphics type='vnc' port='-1' autoport='yes'>
` + dir + `sock.xml:<listen type='socket' socket='/var/lib/libvirt/qemu/sock.vnc'/>
` + dir + `spice.xml:<graphics type='spice' port='5903' listen='127.0.0.1'>
` + dir + `spice.xml:<listen type='socket' socket='/not/vnc'/>
` + dir + `none.xml:<graphics type='vnc' port='-1'>
` + dir + `two.xml:<graphics type='spice' port='5904' listen='127.0.0.1'>
` + dir + `two.xml:<graphics type='vnc' port='5905' listen='fd00::5'>
` + dir + `odd.xml:<graphics type='vnc' port='99999999' listen='127.0.0.1'>
` + dir + `up.xml:<graphics type='vnc' socket='/../etc/shadow'>
garbage`)
	want := []Console{
		{"a", "127.0.0.1:5900"}, {"all", "127.0.0.1:5901"}, {"six", "[::1]:5902"},
		{"sock", "/var/lib/libvirt/qemu/sock.vnc"}, {"two", "[fd00::5]:5905"},
	}
	if !reflect.DeepEqual(h.Consoles, want) {
		t.Errorf("%+v", h.Consoles)
	}
}
