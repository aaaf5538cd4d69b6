package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// An Owner says how long a lab lives.
type Owner string

const (
	// OwnerProcess ties a lab to the process that made it: once that process is
	// gone, Sweep removes the lab.
	OwnerProcess Owner = "process"
	// OwnerKept keeps a lab until it is closed.
	OwnerKept Owner = "kept"
)

// state is what a lab writes down, before it does it, so that another process
// can find and remove all of it.
type state struct {
	ID      string      `json:"id"`
	Owner   Owner       `json:"owner"`
	Process process     `json:"process"` // the owner
	Created time.Time   `json:"created"`
	Hosts   []hostState `json:"hosts"`
}

// hostState is what is written down about one host.
type hostState struct {
	Index      int      `json:"index"` // from 1
	Name       string   `json:"name"`
	Suite      string   `json:"suite"`
	Base       string   `json:"base"` // root tree under the overlay
	Firewall   Firewall `json:"firewall"`
	Login      Login    `json:"login"`
	Cheap      bool     `json:"cheap"`
	Supervisor process  `json:"supervisor"`
}

var validID = regexp.MustCompile(`^[a-z][a-z0-9]{0,11}$`)

func runDir(id string) (string, error) {
	runs, err := cacheDir("run")
	if err != nil {
		return "", err
	}
	return filepath.Join(runs, id), nil
}

// write replaces the state file of a lab in one step.
func (s *state) write(dir string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("lab: encode the state of %s: %w", s.ID, err)
	}
	path := filepath.Join(dir, "state.json")
	if err := os.WriteFile(path+".new", append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("lab: write the state of %s: %w", s.ID, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("lab: write the state of %s: %w", s.ID, err)
	}
	return nil
}

func readState(id string) (*state, error) {
	if !validID.MatchString(id) {
		return nil, fmt.Errorf("lab: %q is not the id of a lab: use up to 12 letters and digits, a letter first", id)
	}
	dir, err := runDir(id)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("lab: no lab %q: 'labctl list' shows which run: %w", id, os.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("lab: read the state of %s: %w", id, err)
	}
	var s state
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("lab: read the state of %s: %w", id, err)
	}
	if s.ID != id {
		return nil, fmt.Errorf("lab: the state of %s names itself %q: remove its directory by hand", id, s.ID)
	}
	return &s, nil
}

// readStates reads the state of every lab, ordered by id.
func readStates() ([]*state, error) {
	runs, err := cacheDir("run")
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(runs)
	if err != nil {
		return nil, fmt.Errorf("lab: list labs: %w", err)
	}
	var states []*state
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		s, err := readState(e.Name())
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		states = append(states, s)
	}
	slices.SortFunc(states, func(a, b *state) int { return strings.Compare(a.ID, b.ID) })
	return states, nil
}
