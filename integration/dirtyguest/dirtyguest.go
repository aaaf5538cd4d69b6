// Package dirtyguest makes guests whose only program is a boot sector that
// writes to memory: what decides whether a live migration ends.
package dirtyguest

import (
	"encoding/binary"
	"fmt"
)

// Guest is a guest of MiB megabytes that boots a floppy image and does
// nothing but write one word to each of its pages, round after round.
type Guest struct {
	Name string
	MiB  int // at least 4
	// Delay is how many turns of an empty loop lie between two writes.
	Delay uint32
	// Once fills the memory a single time and then halts.
	Once bool
	// Machine is the machine type, such as pc-i440fx-7.2.
	Machine string
	// Image is the path of the floppy image, the same on every host.
	Image string
}

// Where the boot sector is loaded, and where the parts of the program lie in
// it.
const (
	origin  = 0x7c00
	gdtAt   = 0x60
	gdtrAt  = 0x78
	imageSz = 1474560 // a floppy of 1.44 MB
)

// Sector is the boot sector, 512 bytes of i386 machine code.
func (g Guest) Sector() []byte {
	u16 := func(n int) []byte { return binary.LittleEndian.AppendUint16(nil, uint16(n)) }
	u32 := func(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }
	var code []byte
	add := func(parts ...[]byte) {
		for _, p := range parts {
			code = append(code, p...)
		}
	}
	add([]byte{0xfa, 0x31, 0xc0, 0x8e, 0xd8})                      // cli; xor ax,ax; mov ds,ax
	add([]byte{0x0f, 0x01, 0x16}, u16(origin+gdtrAt))              // lgdt [gdtr]
	add([]byte{0xe4, 0x92, 0x0c, 0x02, 0xe6, 0x92})                // in al,0x92; or al,2; out 0x92,al: address line 20
	add([]byte{0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0})    // mov eax,cr0; or al,1; mov cr0,eax
	add([]byte{0xea}, u16(origin+len(code)+5), []byte{0x08, 0x00}) // jmp 8:next, 32 bits from here
	add([]byte{0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8})                // mov ax,16; mov ds,ax
	round := len(code)                                             // round:
	add([]byte{0x43, 0xbf}, u32(0x100000))                         // inc ebx; mov edi,1 MiB
	add([]byte{0xb9}, u32(uint32(g.MiB-2)*256))                    // mov ecx,pages (the last MiB belongs to the firmware)
	page := len(code)                                              // page:
	add([]byte{0x89, 0x1f, 0xba}, u32(max(g.Delay, 1)))            // mov [edi],ebx; mov edx,delay
	add([]byte{0x4a, 0x75, 0xfd})                                  // wait: dec edx; jnz wait
	add([]byte{0x81, 0xc7}, u32(4096), []byte{0x49})               // add edi,4096; dec ecx
	add([]byte{0x75, byte(page - len(code) - 2)})                  // jnz page
	if g.Once {
		add([]byte{0xf4, 0xeb, 0xfd}) // halt: hlt; jmp halt
	} else {
		add([]byte{0xeb, byte(round - len(code) - 2)}) // jmp round
	}
	sector := make([]byte, 512)
	copy(sector, code)
	// Flat segments for code (8) and data (16).
	copy(sector[gdtAt+8:], []byte{0xff, 0xff, 0, 0, 0, 0x9a, 0xcf, 0, 0xff, 0xff, 0, 0, 0, 0x92, 0xcf, 0})
	copy(sector[gdtrAt:], append(u16(23), u32(origin+gdtAt)...))
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}

// Floppy is the image that the guest boots.
func (g Guest) Floppy() []byte {
	return append(g.Sector(), make([]byte, imageSz-512)...)
}

// XML is the guest's domain.
func (g Guest) XML() string {
	return fmt.Sprintf(`<domain type="qemu">
  <name>%s</name>
  <memory unit="MiB">%d</memory>
  <os><type arch="x86_64" machine="%s">hvm</type><boot dev="fd"/></os>
  <devices>
    <disk type="file" device="floppy"><driver name="qemu" type="raw"/><source file="%s"/><target dev="fda"/><readonly/></disk>
    <controller type="usb" model="none"/>
    <memballoon model="none"/>
  </devices>
</domain>
`, g.Name, g.MiB, g.Machine, g.Image)
}
