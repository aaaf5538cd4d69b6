package inventory

import (
	"testing"
	"time"
)

func TestWindowOpen(t *testing.T) {
	night := Window{Name: "night", Start: "22:00", Length: 6 * time.Hour, Zone: "Europe/Berlin"}
	sunday := Window{Name: "sunday", Start: "02:30", Length: 2 * time.Hour, Zone: "Europe/Berlin", Days: []string{"sun"}}
	whole := Window{Name: "whole", Start: "00:00", Length: 24 * time.Hour, Zone: "UTC"}
	for _, c := range []struct {
		w    Window
		now  string
		open bool
		at   string // when it closes, or opens
	}{
		{night, "2026-11-22T20:59:59Z", false, "2026-11-22T21:00:00Z"},
		{night, "2026-11-22T21:00:00Z", true, "2026-11-23T03:00:00Z"},
		{night, "2026-11-23T02:59:59Z", true, "2026-11-23T03:00:00Z"},
		{night, "2026-11-23T03:00:00Z", false, "2026-11-23T21:00:00Z"},
		// In summer its start is an hour earlier, seen from UTC.
		{night, "2026-07-01T20:00:00Z", true, "2026-07-02T02:00:00Z"},
		// The night in which clocks go back, and the one in which they go on.
		{night, "2026-10-25T00:30:00Z", true, "2026-10-25T02:00:00Z"},
		{night, "2026-03-29T02:30:00Z", true, "2026-03-29T03:00:00Z"},
		{sunday, "2026-11-22T01:30:00Z", true, "2026-11-22T03:30:00Z"},
		{sunday, "2026-11-22T03:30:00Z", false, "2026-11-29T01:30:00Z"},
		{sunday, "2026-11-23T01:30:00Z", false, "2026-11-29T01:30:00Z"},
		{whole, "2026-11-22T23:59:59Z", true, "2026-11-23T00:00:00Z"},
	} {
		now, _ := time.Parse(time.RFC3339, c.now)
		open, at := c.w.Open(now)
		if open != c.open || at.UTC().Format(time.RFC3339) != c.at {
			t.Errorf("%s at %s: open %v, %s; want %v, %s", c.w.Name, c.now, open, at.UTC().Format(time.RFC3339), c.open, c.at)
		}
	}
	now, _ := time.Parse(time.RFC3339, "2026-11-22T12:00:00Z")
	if open, _, _ := OpenWindow(nil, now); !open {
		t.Error("without windows nothing may be renewed")
	}
	if open, next, at := OpenWindow([]Window{sunday, night}, now); open || next.Name != "night" || at.UTC().Hour() != 21 {
		t.Errorf("the next window is %s at %s, open %v", next.Name, at, open)
	}
	if open, w, _ := OpenWindow([]Window{night, whole}, now); !open || w.Name != "whole" {
		t.Errorf("open %v, %s", open, w.Name)
	}
}
