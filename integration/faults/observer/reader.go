package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// trees are all that virtrust may put a key into.
var trees = []string{"/etc/pki", "/etc/libvirt", "/var/lib/virtrust", "/run/virtrust"}

const keptFiles = 300

// reader is O2: a thread with an unprivileged user's credentials that opens
// whatever it can the moment that it appears, and keeps it open.
func (w *watch) reader(who string, uid, gid int, groups []int, first func()) {
	defer first()
	// Never unlocked: the thread ends with the goroutine.
	runtime.LockOSThread()
	list := make([]uint32, len(groups)+1)
	for i, g := range groups {
		list[i] = uint32(g)
	}
	// Go's own functions would change every thread of the process.
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&list[0])), 0); e != 0 {
		w.violate("O2", "%s: setgroups: %v", who, e)
		return
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); e != 0 {
		w.violate("O2", "%s: setresgid: %v", who, e)
		return
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
		w.violate("O2", "%s: setresuid: %v", who, e)
		return
	}
	if _, err := os.ReadFile("/etc/shadow"); err == nil {
		w.violate("O2", "%s may read everything: the observer is at fault", who)
		return
	}
	in, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		w.violate("O2", "%s: inotify: %v", who, err)
		return
	}
	defer unix.Close(in)
	r := &keeper{w: w, who: who, in: in, dirs: map[int32]string{}, kept: map[string]*held{}}
	defer r.close()
	for !w.stopped() {
		r.walk(trees...)
		r.again()
		first()
		for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end) && !w.stopped(); {
			ready := []unix.PollFd{{Fd: int32(in), Events: unix.POLLIN}}
			if n, _ := unix.Poll(ready, 50); n > 0 {
				r.events()
				r.again()
			}
		}
	}
	r.again()
}

type held struct {
	f    *os.File
	size int64
	mod  time.Time
}

type keeper struct {
	w    *watch
	who  string
	in   int
	dirs map[int32]string
	kept map[string]*held // by path and inode
}

func (r *keeper) close() {
	for _, h := range r.kept {
		h.f.Close()
	}
}

func (r *keeper) walk(roots ...string) {
	for _, root := range roots {
		filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
			case d.IsDir():
				if wd, err := unix.InotifyAddWatch(r.in, p, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ATTRIB|unix.IN_MODIFY|unix.IN_ONLYDIR); err == nil {
					r.dirs[int32(wd)] = p
				}
			default:
				r.open(p)
			}
			return nil
		})
	}
}

func (r *keeper) events() {
	buf := make([]byte, 64<<10)
	n, _ := unix.Read(r.in, buf)
	for at := 0; at+unix.SizeofInotifyEvent <= n; {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&buf[at]))
		name := strings.TrimRight(string(buf[at+unix.SizeofInotifyEvent:at+unix.SizeofInotifyEvent+int(e.Len)]), "\x00")
		at += unix.SizeofInotifyEvent + int(e.Len)
		dir, ok := r.dirs[e.Wd]
		if !ok {
			continue
		}
		if p := filepath.Join(dir, name); e.Mask&unix.IN_ISDIR != 0 {
			r.walk(p)
		} else {
			r.open(p)
		}
	}
}

func (r *keeper) open(p string) {
	f, err := os.OpenFile(p, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		f.Close()
		return
	}
	id := p + " " + strconv.FormatUint(info.Sys().(*syscall.Stat_t).Ino, 10)
	if r.kept[id] != nil || len(r.kept) >= keptFiles {
		f.Close()
		return
	}
	r.w.mu.Lock()
	r.w.rep.Opens++
	r.w.mu.Unlock()
	h := &held{f: f, size: -1}
	r.kept[id] = h
	r.read(h)
}

// again reads what changed since it was opened.
func (r *keeper) again() {
	for _, h := range r.kept {
		r.read(h)
	}
}

func (r *keeper) read(h *held) {
	info, err := h.f.Stat()
	if err != nil || info.Size() == h.size && info.ModTime().Equal(h.mod) {
		return
	}
	h.size, h.mod = info.Size(), info.ModTime()
	buf := make([]byte, 256<<10)
	n, _ := h.f.ReadAt(buf, 0)
	if bytes.Contains(buf[:n], []byte("PRIVATE KEY-----")) {
		r.w.violate("O2", "%s read a private key in %s (mode %s now)", r.who, h.f.Name(), info.Mode())
	}
}

func group(name string) (int, bool) {
	text, _ := os.ReadFile("/etc/group")
	for l := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(l), ":")
		if len(f) > 2 && f[0] == name {
			gid, err := strconv.Atoi(f[2])
			return gid, err == nil
		}
	}
	return 0, false
}
