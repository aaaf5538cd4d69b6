package facts

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrTorn means that a file changed while the script read it. Look again.
var ErrTorn = errors.New("facts: a file changed while it was read")

// ErrNoScript means that the output does not hold the script's answer: the
// login shell is not a shell, or the output was cut.
var ErrNoScript = errors.New("facts: the script's answer did not arrive whole")

type frame struct {
	kind, arg string
	data      []byte
}

// Frame is one framed answer of a script that uses the same framing.
type Frame struct {
	Kind, Arg string
	Data      []byte
}

// Frames gives the frames that arrived whole, whatever came after them. It is
// for scripts that may end early.
func Frames(nonce string, out []byte) []Frame {
	head := []byte(nonce + " ")
	var frames []Frame
	for {
		start := bytes.Index(out, head)
		if start < 0 {
			return frames
		}
		out = out[start:]
		nl := bytes.IndexByte(out, '\n')
		if nl < 0 {
			return frames
		}
		kind, rest, _ := strings.Cut(string(out[len(head):nl]), " ")
		length, arg, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(length)
		out = out[nl+1:]
		if err != nil || n < 0 || n > len(out) {
			return frames
		}
		frames = append(frames, Frame{Kind: kind, Arg: arg, Data: out[:n:n]})
		out = out[n:]
	}
}

// split cuts the output into frames. Everything before the first frame is
// noise of the login shell.
func split(nonce string, out []byte) ([]frame, []byte, error) {
	head := []byte(nonce + " ")
	start := bytes.Index(out, head)
	if start < 0 {
		return nil, nil, fmt.Errorf("%w: no frame in %d bytes", ErrNoScript, len(out))
	}
	login := out[:start]
	out = out[start:]
	var frames []frame
	for {
		if !bytes.HasPrefix(out, head) {
			// A content frame whose files changed size is the one way in
			// which an honest host breaks the framing.
			if n := len(frames); n > 0 && frames[n-1].kind == "content" {
				return nil, nil, ErrTorn
			}
			return nil, nil, fmt.Errorf("%w: broken frame", ErrNoScript)
		}
		nl := bytes.IndexByte(out, '\n')
		if nl < 0 {
			return nil, nil, fmt.Errorf("%w: cut in a frame's head", ErrNoScript)
		}
		kind, rest, _ := strings.Cut(string(out[len(head):nl]), " ")
		length, arg, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(length)
		out = out[nl+1:]
		if err != nil || n < 0 {
			return nil, nil, fmt.Errorf("%w: bad length", ErrNoScript)
		}
		if n+1 > len(out) {
			if kind == "content" {
				return nil, nil, ErrTorn
			}
			return nil, nil, fmt.Errorf("%w: cut in a frame", ErrNoScript)
		}
		frames = append(frames, frame{kind, arg, out[:n:n]})
		if out[n] != '\n' {
			if kind == "content" {
				return nil, nil, ErrTorn
			}
			return nil, nil, fmt.Errorf("%w: frame without end", ErrNoScript)
		}
		out = out[n+1:]
		if kind == "end" {
			return frames, login, nil
		}
	}
}
