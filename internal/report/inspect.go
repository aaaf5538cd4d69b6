package report

import (
	"io"
	"strconv"
	"strings"
)

// Section is one part of what is told of a host: a title and rows of a name
// and a text. Of a row without name only the text is written, and a text of
// several lines is a list.
type Section struct {
	Title string
	Rows  [][2]string
}

// Inspection writes what is there on one host. What a host said may be in
// every text. The error is the writer's.
func Inspection(w io.Writer, host string, sections []Section, o Options) error {
	p := newPage(o)
	p.linef("%s", p.strong.Render(Safe(host)))
	width := 0
	for _, s := range sections {
		for _, r := range s.Rows {
			width = max(width, len(Safe(r[0])))
		}
	}
	width = min(width, 24)
	for _, s := range sections {
		if len(s.Rows) == 0 {
			continue
		}
		p.linef("  %s", p.strong.Render(Safe(s.Title)))
		for _, r := range s.Rows {
			head, rest := "    ", "    "
			if r[0] != "" {
				head, rest = head+pad(Safe(r[0]), width)+"  ", head+pad("", width)+"  "
			}
			for i, l := range strings.Split(r[1], "\n") {
				if i > 0 {
					head = rest
				}
				l = SafeN(l, SafeRunes)
				text := strings.TrimLeft(l, " ")
				p.hang(head+l[:len(l)-len(text)], text, nil)
			}
		}
	}
	return p.flush(w)
}

// Diff writes the lines in which two versions of a file differ, each with the
// number that it has in its version. The error is the writer's.
func Diff(w io.Writer, name string, before, after []byte, o Options) error {
	p := newPage(o)
	a, b := strings.Split(string(before), "\n"), strings.Split(string(after), "\n")
	p.linef("%s", p.strong.Render(Safe(name)))
	start := 0
	for start < len(a) && start < len(b) && a[start] == b[start] {
		start++
	}
	endA, endB := len(a), len(b)
	for endA > start && endB > start && a[endA-1] == b[endB-1] {
		endA, endB = endA-1, endB-1
	}
	common := longest(a[start:endA], b[start:endB])
	i, j := start, start
	line := func(mark string, n int, text string) {
		style := p.good
		if mark == "-" {
			style = p.bad
		}
		p.linef("  %s", style.Render(pad(mark, 2)+pad(strconv.Itoa(n+1), 6)+SafeN(text, SafeRunes)))
	}
	for _, c := range append(common, [2]int{endA - start, endB - start}) {
		for ; i < start+c[0]; i++ {
			line("-", i, a[i])
		}
		for ; j < start+c[1]; j++ {
			line("+", j, b[j])
		}
		i, j = i+1, j+1
	}
	return p.flush(w)
}

// maxDiff bounds the table of a comparison; beyond it all lines between the
// first and the last difference count as changed.
const maxDiff = 4 << 20

// longest is the pairs of equal lines of a longest common subsequence.
func longest(a, b []string) [][2]int {
	if len(a)*len(b) == 0 || len(a)*len(b) > maxDiff {
		return nil
	}
	t := make([][]int, len(a)+1)
	for i := range t {
		t[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				t[i][j] = t[i+1][j+1] + 1
			} else {
				t[i][j] = max(t[i+1][j], t[i][j+1])
			}
		}
	}
	var out [][2]int
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] == b[j]:
			out = append(out, [2]int{i, j})
			i, j = i+1, j+1
		case t[i+1][j] >= t[i][j+1]:
			i++
		default:
			j++
		}
	}
	return out
}
