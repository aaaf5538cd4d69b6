package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/virtrust/virtrust/plan"
)

// gridHosts is up to how many hosts a matrix is drawn as a grid.
const gridHosts = 12

// Matrix writes who can talk to whom: a grid for few hosts, then why pairs
// cannot, alike ones together.
func Matrix(w io.Writer, talks []plan.Talk) error {
	var names []string
	ok := map[[2]string]bool{}
	silent := map[string]int{}
	for _, t := range talks {
		if !slices.Contains(names, t.From) {
			names = append(names, t.From)
		}
		ok[[2]string{t.From, t.To}] = t.OK
		if !t.OK {
			silent[t.Why]++
		}
	}
	var b strings.Builder
	if len(names) <= gridHosts {
		width := 0
		for _, n := range names {
			width = max(width, len(Safe(n)))
		}
		fmt.Fprintf(&b, "%-*s", width, "")
		for i := range names {
			fmt.Fprintf(&b, " %2d", i+1)
		}
		b.WriteString("\n")
		for i, from := range names {
			fmt.Fprintf(&b, "%-*s", width, Safe(from))
			for j, to := range names {
				mark := "+"
				if i == j {
					mark = "."
				} else if !ok[[2]string{from, to}] {
					mark = "-"
				}
				fmt.Fprintf(&b, " %2s", mark)
			}
			fmt.Fprintf(&b, "  %d\n", i+1)
		}
		b.WriteString("\n")
	}
	mute := 0
	for _, n := range silent {
		mute += n
	}
	fmt.Fprintf(&b, "%d of %d pairs can talk.\n", len(talks)-mute, len(talks))
	whys := make([]string, 0, len(silent))
	for why := range silent {
		whys = append(whys, why)
	}
	slices.SortFunc(whys, func(x, y string) int {
		if silent[x] != silent[y] {
			return silent[y] - silent[x]
		}
		return strings.Compare(x, y)
	})
	for i, why := range whys {
		if i == 20 {
			fmt.Fprintf(&b, "  and %d more reasons: --json has all\n", len(whys)-i)
			break
		}
		fmt.Fprintf(&b, "  %s\n", Safe(why))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
