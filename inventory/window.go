package inventory

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // zones are known on every machine
)

// Window is a time of each day, or of some days of the week, at which renewals
// may be carried out.
type Window struct {
	Name   string        `json:"name"`
	Start  string        `json:"start"` // HH:MM in the zone
	Length time.Duration `json:"length"`
	Zone   string        `json:"zone"` // of the IANA database, or UTC
	// Days on which it starts, as "mon"; empty means every day.
	Days   []string `json:"days,omitempty"`
	Source Range    `json:"source"`
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// Open reports whether the window is open at a moment, and when it closes then.
// Where it is closed, at is when it opens next. Clocks that are put forward or
// back change the start of the day's window, never its length.
func (w Window) Open(now time.Time) (open bool, at time.Time) {
	zone, err := time.LoadLocation(w.Zone)
	if err != nil {
		zone = time.UTC // refused at load
	}
	var hour, minute int
	_, _ = fmt.Sscanf(w.Start, "%d:%d", &hour, &minute)
	local := now.In(zone)
	// The window of yesterday may reach into today, the next may be a week off.
	for day := -1; day <= 8; day++ {
		start := time.Date(local.Year(), local.Month(), local.Day()+day, hour, minute, 0, 0, zone)
		if len(w.Days) > 0 && !slices.Contains(w.Days, weekdays[start.Weekday()]) {
			continue
		}
		end := start.Add(w.Length)
		switch {
		case !now.Before(start) && now.Before(end):
			return true, end
		case start.After(now):
			return false, start
		}
	}
	return false, time.Time{}
}

// OpenWindow reports whether one of the windows is open, and when the first of
// them opens otherwise. Without windows every time will do.
func OpenWindow(windows []Window, now time.Time) (open bool, next Window, at time.Time) {
	if len(windows) == 0 {
		return true, Window{}, time.Time{}
	}
	for _, w := range windows {
		is, when := w.Open(now)
		if is {
			return true, w, when
		}
		if at.IsZero() || when.Before(at) {
			next, at = w, when
		}
	}
	return false, next, at
}

var clockTime = regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]$`)

func (l *loader) decodeWindows() {
	for _, d := range l.order["window"] {
		for _, i := range d.instances {
			r := l.instanceReader(d.node, i)
			v := Window{Name: i.name, Zone: "UTC", Source: sourceRange(d.node.rng)}
			start, at, ok := r.text("start", "")
			if ok && !clockTime.MatchString(start) {
				r.problem(at, "Unfit time of day", `Give hours and minutes, such as "22:00".`)
			}
			v.Start = start
			v.Length, at = r.duration("length", 0)
			if v.Length != 0 && (v.Length < 10*time.Minute || v.Length > 24*time.Hour) {
				r.problem(at, "Unfit length of a window", "A window lasts from 10 minutes to 24 hours.")
			}
			zone, at, ok := r.text("zone", "UTC")
			if ok {
				if _, err := time.LoadLocation(zone); err != nil || zone == "" || zone == "Local" {
					r.problem(at, fmt.Sprintf("Unknown zone %q", zone), `Give a name of the time zone database, such as "Europe/Berlin", or "UTC".`)
				}
			}
			v.Zone = zone
			items, _ := r.list("days")
			for _, x := range items {
				s, ok := r.asText(x)
				if ok && r.isWord(x, "day", s, weekdays) && !slices.Contains(v.Days, s) {
					v.Days = append(v.Days, s)
				}
			}
			if a := d.node.attrs["days"]; a != nil && len(items) == 0 && !r.bad {
				r.bad = true
				l.errorAt(a.expr.Range(), "Window on no day", "It would never open. Name days, or leave the attribute out.")
			}
			l.windows[i.name] = v
		}
	}
}

// windowsOf reads references to windows.
func (r *reader) windowsOf(name string) []Window {
	refs, _, _ := r.references(name, "window")
	var out []Window
	for _, x := range refs {
		w := r.l.windows[x.inst.name]
		r.l.windowsUsed[x.inst.name] = true
		if !slices.ContainsFunc(out, func(o Window) bool { return o.Name == w.Name }) {
			out = append(out, w)
		}
	}
	return out
}

// unusedWindows warns of windows that bound nothing.
func (l *loader) unusedWindows() {
	for _, d := range l.order["window"] {
		if !l.windowsUsed[d.node.label()] {
			l.warnAt(d.node.labelRange(), fmt.Sprintf("Window %q bounds nothing", d.node.label()),
				"Name it in the rollout block of a policy: windows = [window."+d.node.label()+"].")
		}
	}
}

func windowText(ws []Window) string {
	names := make([]string, len(ws))
	for i, w := range ws {
		names[i] = "window." + w.Name
	}
	return "[" + strings.Join(names, ", ") + "]"
}
