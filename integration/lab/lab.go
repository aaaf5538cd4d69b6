package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// A Lab is a set of hosts on two networks of their own.
type Lab struct {
	ID string

	dir   string
	log   *slog.Logger
	mu    sync.Mutex
	state *state
	hosts []*Host
}

// Config says how a lab is made.
type Config struct {
	Owner Owner        // "" is OwnerProcess
	ID    string       // "" is a random one; up to 12 lower-case letters and digits, a letter first
	Log   *slog.Logger // progress; nil is none
}

// New makes a lab without hosts, after Sweep. The caller closes it.
func New(ctx context.Context, c Config) (*Lab, error) {
	if err := CheckDependencies(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Owner == "" {
		c.Owner = OwnerProcess
	}
	if c.ID == "" {
		c.ID = "x" + randomID()
	}
	if !validID.MatchString(c.ID) {
		return nil, fmt.Errorf("lab: id %q: use up to 12 lower-case letters and digits, a letter first", c.ID)
	}
	if err := Sweep(ctx, c.Log); err != nil {
		return nil, err
	}
	owner, err := findProcess(os.Getpid())
	if err != nil {
		return nil, err
	}
	s := &state{ID: c.ID, Owner: c.Owner, Process: owner, Created: time.Now().UTC().Truncate(time.Second)}
	dir, err := claim(s)
	if err != nil {
		return nil, err
	}
	l := &Lab{ID: c.ID, dir: dir, log: c.Log, state: s}
	err = writeClientKey(dir, c.ID)
	if err == nil {
		err = os.WriteFile(l.KnownHosts(), nil, 0o600)
	}
	if err == nil {
		err = l.makeController(ctx)
	}
	if err == nil {
		err = l.writeHosts(nil)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func randomID() string {
	b := make([]byte, 3)
	rand.Read(b)
	return fmt.Sprintf("%x", b)
}

// claim makes a lab's directory with its state in it, in one step.
func claim(s *state) (string, error) {
	lock, err := lockRuns()
	if err != nil {
		return "", err
	}
	defer lock.Close()
	dir, err := runDir(s.ID)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err == nil {
		return "", fmt.Errorf("lab: there is a lab %q already: 'labctl down %[1]s' removes it", s.ID)
	}
	if _, err := os.Stat(filepath.Join(netnsDir, controllerOf(s.ID))); err == nil {
		return "", fmt.Errorf("lab: namespace %s exists: a lab %q runs from another cache directory: choose another id", controllerOf(s.ID), s.ID)
	}
	fresh := filepath.Join(filepath.Dir(dir), ".new-"+s.ID)
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return "", fmt.Errorf("lab: make the lab's directory: %w", err)
	}
	if err := s.write(fresh); err != nil {
		os.RemoveAll(fresh)
		return "", err
	}
	if err := os.Rename(fresh, dir); err != nil {
		return "", fmt.Errorf("lab: make the lab's directory: %w", err)
	}
	return dir, nil
}

func lockRuns() (*os.File, error) {
	runs, err := cacheDir("run")
	if err != nil {
		return nil, err
	}
	return lockFile(filepath.Join(runs, ".lock"))
}

// Open finds a lab that exists. Only one process at a time may change a lab.
func Open(id string, log *slog.Logger) (*Lab, error) {
	s, err := readState(id)
	if err != nil {
		return nil, err
	}
	return open(s, log)
}

func open(s *state, log *slog.Logger) (*Lab, error) {
	dir, err := runDir(s.ID)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l := &Lab{ID: s.ID, dir: dir, log: log, state: s}
	for _, h := range s.Hosts {
		l.hosts = append(l.hosts, newHost(l, h))
	}
	return l, nil
}

// List opens every lab of this user, ordered by id.
func List(log *slog.Logger) ([]*Lab, error) {
	states, err := readStates()
	if err != nil {
		return nil, err
	}
	var labs []*Lab
	for _, s := range states {
		l, err := open(s, log)
		if err != nil {
			return nil, err
		}
		labs = append(labs, l)
	}
	return labs, nil
}

// Start adds hosts to the lab, named kvm1, kvm2 and so on, boots them in
// parallel, and returns once each answers on SSH and its units have started.
// Base systems that are not cached are built first. After an error the hosts
// may be in any state: close the lab.
func (l *Lab) Start(ctx context.Context, specs ...HostSpec) ([]*Host, error) {
	specs = slices.Clone(specs)
	if err := raiseLimits(l.log); err != nil {
		return nil, err
	}
	suites := map[string]bool{}
	cheap := true
	for i := range specs {
		if err := specs[i].complete(); err != nil {
			return nil, err
		}
		suites[specs[i].Suite] = true
		cheap = cheap && specs[i].Cheap
	}
	bases, err := BuildAll(ctx, slices.Sorted(maps.Keys(suites)), l.log)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	older := l.Hosts()
	added, err := l.add(specs, bases)
	if err != nil {
		return nil, err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	if cheap {
		g.SetLimit(32)
	}
	for i, h := range added {
		g.Go(func() error {
			if err := h.makeNetwork(gctx); err != nil {
				return err
			}
			if err := h.prepare(specs[i]); err != nil {
				return err
			}
			return h.Start(gctx)
		})
	}
	for _, h := range older {
		if h.Running() {
			g.Go(func() error { return h.refreshNames(gctx) })
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	l.log.Info("started hosts", "lab", l.ID, "count", len(added), "took", time.Since(began).Round(10*time.Millisecond))
	return added, nil
}

// add writes down new hosts and gives their names to all others.
func (l *Lab) add(specs []HostSpec, bases map[string]string) ([]*Host, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.hosts)+len(specs) > maxHosts {
		return nil, fmt.Errorf("lab: %d hosts are too many: a lab has addresses for %d", len(l.hosts)+len(specs), maxHosts)
	}
	// Under the lock, so that no base is removed as unused before it is written down.
	lock, err := lockRuns()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	var added []*Host
	for _, spec := range specs {
		if _, err := os.Stat(bases[spec.Suite]); err != nil {
			return nil, fmt.Errorf("lab: the %s base was removed by another process: try again: %w", spec.Suite, err)
		}
		hs := hostState{
			Index: len(l.state.Hosts) + 1, Suite: spec.Suite, Base: bases[spec.Suite],
			Firewall: spec.Firewall, Login: spec.Login, Cheap: spec.Cheap,
		}
		hs.Name = fmt.Sprintf("kvm%d", hs.Index)
		l.state.Hosts = append(l.state.Hosts, hs)
		h := newHost(l, hs)
		l.hosts = append(l.hosts, h)
		added = append(added, h)
		if err := os.MkdirAll(h.dir, 0o700); err != nil {
			return nil, fmt.Errorf("lab: %s: make its directory: %w", h.Name, err)
		}
	}
	if err := l.state.write(l.dir); err != nil {
		return nil, err
	}
	return added, l.writeHosts(l.hosts)
}

// Hosts lists the lab's hosts in the order in which they were added.
func (l *Lab) Hosts() []*Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.hosts)
}

// Owner says how long the lab lives.
func (l *Lab) Owner() Owner { return l.state.Owner }

// Created is when the lab was made.
func (l *Lab) Created() time.Time { return l.state.Created }

// KnownHosts is a known_hosts file with the true keys of all hosts, under all
// their names and addresses.
func (l *Lab) KnownHosts() string { return filepath.Join(l.dir, "known_hosts") }

// IdentityFile is the private key, without passphrase, that the hosts let in.
func (l *Lab) IdentityFile() string { return filepath.Join(l.dir, "identity") }

// Namespace is the name of the controller namespace, for ip netns.
func (l *Lab) Namespace() string { return l.controller() }

func (l *Lab) controller() string { return controllerOf(l.ID) }

func controllerOf(id string) string { return "vt" + id + "c" }

func netnsOf(id string, index int) string { return fmt.Sprintf("vt%sh%d", id, index) }

func machineOf(id, name string) string { return "vt-" + id + "-" + name }
