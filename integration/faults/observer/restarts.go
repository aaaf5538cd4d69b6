package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"time"
)

// span is one restart, from systemd's "Stopping", or the daemon's end, to its
// "Started".
type span struct{ from, to time.Time }

// Message ids of systemd, from sd-messages.h.
const (
	unitStopping = "de5b426a63be47a7b6ac3eaac82e2f6f"
	unitStopped  = "9d1aaa27d60140bd96365438aad20286"
	unitStarting = "7d4958e842da4a758f6c1cdc7b36dcc5"
	unitStarted  = "39f53479d3a045ac8e11786248231fbf"
)

// restartsSince reads the restarts of libvirtd from the journal. One that has
// not ended lasts until now.
func restartsSince(began time.Time) ([]span, error) {
	if out, err := exec.Command("journalctl", "--sync").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	out, err := exec.Command("journalctl", "-q", "--no-pager", "-o", "json", "--output-fields=MESSAGE_ID,_SOURCE_REALTIME_TIMESTAMP",
		fmt.Sprintf("--since=@%d", began.Unix()-2), "_PID=1", "UNIT=libvirtd.service").Output()
	if err != nil {
		return nil, err
	}
	var spans []span
	var open *time.Time
	for line := range bytes.Lines(out) {
		var e struct {
			ID     string `json:"MESSAGE_ID"`
			Source string `json:"_SOURCE_REALTIME_TIMESTAMP"`
			At     string `json:"__REALTIME_TIMESTAMP"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			continue // a message that is no text
		}
		if e.Source == "" {
			e.Source = e.At
		}
		us, err := strconv.ParseInt(e.Source, 10, 64)
		if err != nil {
			continue
		}
		at := time.UnixMicro(us)
		switch e.ID {
		case unitStopping, unitStopped, unitStarting:
			if open == nil {
				open = &at
			}
		case unitStarted:
			if open != nil {
				spans = append(spans, span{*open, at})
				open = nil
			}
		}
	}
	if open != nil {
		spans = append(spans, span{*open, time.Now()})
	}
	return spans, nil
}
