package plan

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
)

// host carries out one host's transaction.
func (r *Runner) host(ctx context.Context, h *HostPlan) HostReport {
	began := r.Now()
	hr := HostReport{Host: h.Host, Cluster: h.Cluster}
	fail := func(step string, result Result, err error) HostReport {
		f := r.Classify(err)
		hr.Failure, hr.Step, hr.Result = &f, step, result
		hr.Took = r.Now().Sub(began)
		r.event(h.Host, step, "", result)
		return hr
	}
	if ctx.Err() != nil {
		return fail("lock", Held, context.Cause(ctx))
	}
	r.event(h.Host, "lock", "", "")
	s, err := r.Open(ctx, h.Host)
	if err != nil {
		return fail("lock", Held, err)
	}
	// A host that has begun is brought to an end even when the run is
	// interrupted: only its deadline ends it.
	hostCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hostDeadline+r.WaitJobs)
	defer cancel()

	step, workErr := r.work(hostCtx, ctx, s, h, &hr)
	if step == "held" {
		hr.Failure, hr.Step, hr.Result = &Failure{Class: "moved", Text: workErr.Error(), Hint: "make a new plan"}, "look", Held
		var held *heldError
		if errors.As(workErr, &held) {
			hr.Failure = &held.Failure
		}
	}
	r.event(h.Host, "end", "", "")
	out, endErr := s.End(hostCtx, workErr == nil)
	if step == "held" {
		hr.Took = r.Now().Sub(began)
		r.event(h.Host, "look", "", Held)
		return hr
	}
	switch {
	case workErr == nil && out == Committed:
		hr.Result, hr.Ops = Changed, len(h.Ops)
		hr.Took = r.Now().Sub(began)
		r.event(h.Host, "end", "", Changed)
		return hr
	case workErr == nil:
		workErr, step = endErr, "end"
		if workErr == nil {
			workErr = errors.New("the host did not commit")
		}
	}
	var locked *LockedError
	var waiting *WaitingError
	switch {
	case errors.As(workErr, &waiting) && out == Untouched:
		return fail(step, Waiting, workErr)
	case errors.As(workErr, &locked):
		return fail(step, Held, workErr)
	case out == Committed:
		// The reply of the commit was lost and the journal has it, or a
		// change of files alone was committed before its proof failed.
		if hr.Proof != nil && step == "prove" {
			hr.Proof.NotProved = workErr.Error()
		}
		hr.Result, hr.Ops = Changed, len(h.Ops)
		hr.Took = r.Now().Sub(began)
		r.event(h.Host, "end", "", Changed)
		return hr
	case out == Untouched && step == "lock" && r.Classify(workErr).Class == "lock":
		// Another run's script is at work, or what an earlier run left is.
		return fail(step, Held, workErr)
	case out == Untouched:
		return fail(step, Failed, workErr)
	case out == Reverted:
		return fail(step, WasReset, workErr)
	default:
		return fail(step, Unknown, errors.Join(workErr, endErr))
	}
}

// hostDeadline bounds one host's whole transaction.
const hostDeadline = 10 * time.Minute

// work does everything between the lock and the end and names the step that
// failed. Before the switch an interrupt stops it; afterwards it goes on.
func (r *Runner) work(ctx, run context.Context, s Session, h *HostPlan, hr *HostReport) (string, error) {
	seen, err := s.Lock(ctx, r.Queries(h.Host))
	if err != nil {
		return "lock", err
	}
	if h.Disrupts().Exceeds(DisruptReloadPerVM) {
		if seen, err = r.idle(ctx, run, s, h, seen); err != nil {
			return "lock", err
		}
	}
	r.event(h.Host, "look", "", "")
	if moved := Moved(h, seen); len(moved) > 0 {
		return "held", errors.New("the host is not as the plan saw it: " + strings.Join(moved, "; "))
	}
	if busy := seen.Busy(); len(busy) > 0 && h.Disrupts().Exceeds(DisruptReloadPerVM) {
		return "held", &heldError{Failure{Class: "job", Text: fmt.Sprintf("guest %q is in a job (%s) and the plan restarts the daemon", busy[0].Name, busy[0].Job),
			Hint: "apply again when the job has ended, or wait longer with --wait-jobs"}}
	}
	if err := context.Cause(run); err != nil {
		return "look", err
	}
	r.event(h.Host, "stage", "", "")
	sign := func(ctx context.Context, host string, o Enrol, csr []byte) ([][]byte, error) {
		r.event(h.Host, "sign", o.Certificate, "")
		chain, err := r.Sign(ctx, host, o, csr)
		if err != nil {
			return nil, err
		}
		return chain, checkIssued(o, csr, chain, h.Ops, seen, r.Now())
	}
	if err := s.Stage(ctx, h.Ops, sign); err != nil {
		return "stage", err
	}
	if err := context.Cause(run); err != nil {
		return "stage", err
	}
	r.event(h.Host, "switch", "", "")
	if err := s.Switch(ctx); err != nil {
		return "switch", err
	}
	r.event(h.Host, "prove", "", "")
	var peers []Peer
	if r.Peers != nil {
		peers = r.Peers(h.Host, peersToAsk)
	}
	proof, err := s.Prove(ctx, peers)
	hr.Proof = &proof
	if err != nil {
		return "prove", err
	}
	return "", nil
}

// heldError is a failure that stands for itself.
type heldError struct{ Failure }

func (e *heldError) Error() string { return e.Text }

// jobsEvery is how often a host is asked whether its guests' jobs have ended.
const jobsEvery = 3 * time.Second

// idle waits until no guest is in a job, within the limit, and gives the last
// look. Each look renews the lease.
func (r *Runner) idle(ctx, run context.Context, s Session, h *HostPlan, seen *facts.Host) (*facts.Host, error) {
	limit := r.Now().Add(r.WaitJobs)
	for told := false; len(seen.Busy()) > 0 && r.Now().Before(limit); {
		if !told {
			busy := seen.Busy()[0]
			r.event(h.Host, "wait", fmt.Sprintf("for the %s of guest %s", busy.Job, busy.Name), "")
			told = true
		}
		select {
		case <-run.Done():
			return seen, context.Cause(run)
		case <-ctx.Done():
			return seen, context.Cause(ctx)
		case <-time.After(min(jobsEvery, max(time.Millisecond, limit.Sub(r.Now())))):
		}
		again, err := s.Lock(ctx, r.Queries(h.Host))
		if err != nil {
			return seen, err
		}
		seen = again
	}
	return seen, nil
}

func (r *Runner) event(host, step, detail string, result Result) {
	r.Log.Debug("step", "host", host, "step", step, "result", result)
	if r.Progress != nil {
		r.Progress(Event{Host: host, Step: step, Detail: detail, Result: result})
	}
}
