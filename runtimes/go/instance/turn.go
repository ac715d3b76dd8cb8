package instance

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"sutazai/agent"
	"sutazai/wire"
)

// Why a turn must stop.
const (
	cancelled  = "cancelled"
	deadline   = "deadline"
	leaseLost  = "lease"
	endOrdered = "ended"
)

type running struct {
	*instance
	turn   wire.Turn
	held   wire.Held
	until  time.Time
	ctx    *agent.Context
	cancel context.CancelFunc
	reason string

	progress chan struct{} // there is news of it
	lost     chan string   // a checkpoint learned that the turn is lost
}

// turn runs a turn and ends it: with a commit, or, when it is given up, without one.
func (i *instance) turn(ctx context.Context, message wire.Message) {
	turn, err := wire.ReadTurn(message)
	if err != nil {
		return // the link has refused it
	}
	r := &running{
		instance: i, turn: turn, held: wire.Held{Task: turn.Task.ID, Fence: turn.Fence},
		until:    time.Now().Add(time.Duration(turn.DeadlineLeftMS) * time.Millisecond),
		progress: make(chan struct{}, 1), lost: make(chan string, 1),
	}
	defer i.link.release(r.held)
	skillCtx, cancel := context.WithDeadline(ctx, r.until)
	r.cancel = cancel
	defer cancel()
	r.ctx = agent.NewContext(skillCtx, turn, agent.Surroundings{
		Settings: i.Settings, Fleet: i.Fleet, Control: filepath.Join(filepath.Dir(i.Broker), "control.sock"), Log: i.Log, Scratch: i.scratch.folder,
		OnProgress: func() { notify(r.progress) }, OnCheckpoint: r.checkpoint, OnAsk: r.ask,
	})
	done := make(chan wire.Commit, 1)
	go func() { done <- agent.Execute(i.Agent, turn, r.ctx) }()
	commit := r.watch(ctx, done)
	if ctx.Err() != nil {
		return
	}
	r.finish(ctx, commit)
}

func notify(channel chan struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}

// watch sends heartbeats, hears the broker and keeps the deadline until the skill has returned.
func (r *running) watch(ctx context.Context, done <-chan wire.Commit) wire.Commit {
	heartbeat := time.NewTimer(r.link.heartbeatEvery())
	defer heartbeat.Stop()
	over := time.NewTimer(time.Until(r.until))
	defer over.Stop()
	ended := ctx.Done()
	lastTold := time.Time{}
	for {
		select {
		case commit := <-done:
			if r.reason == "" && commit.Outcome == "failed" && !time.Now().Before(r.until) {
				r.reason = deadline // the skill's context told it before the timer here did
			}
			return commit
		case <-heartbeat.C:
			lastTold = time.Now()
			r.beat()
			heartbeat.Reset(r.link.heartbeatEvery())
		case <-r.progress:
			restart(heartbeat, progressGap-minimum(progressGap, time.Since(lastTold)))
		case <-r.link.wake:
			if r.hearAll() {
				restart(heartbeat, 0)
			}
		case <-over.C:
			r.stop(deadline)
		case reason := <-r.lost:
			r.stop(reason)
		case <-ended:
			ended = nil
			r.stop(endOrdered)
		}
	}
}

func minimum(a, b time.Duration) time.Duration {
	if a < b {
		return a
	}
	return b
}

// stop asks the skill to return; what it returns is dropped. One that does not listen is ended by the broker's order to
// sutazaid, together with its worker.
func (r *running) stop(reason string) {
	if r.reason == "" {
		r.reason = reason
		r.cancel()
	}
}

func (r *running) beat() {
	r.link.send(&wire.Heartbeat{Head: wire.Head{Type: "heartbeat"}, Held: r.held, Progress: r.ctx.ProgressNow()})
}

// hearAll takes what the broker says during the turn; true when there is a new connection.
func (r *running) hearAll() bool {
	renewed := false
	for found, there := r.link.next(); there; found, there = r.link.next() {
		if found.message == nil {
			renewed = true
			continue
		}
		switch found.message.Type {
		case "lease":
			lease := wire.Lease{Task: r.held.Task, Fence: r.held.Fence}
			if found.message.Decode(&lease) == nil && lease.Task == r.held.Task && lease.Fence == r.held.Fence {
				if lease.Cancel {
					r.stop(cancelled)
				} else if !lease.OK {
					r.stop(leaseLost)
				}
			}
		case "cancel":
			var whose wire.Held
			if found.message.Decode(&whose) == nil && whose == r.held {
				r.stop(cancelled)
			}
		case "drain":
			r.draining = true
		case "rest":
			r.resting = true
		}
	}
	return renewed
}

// finish commits a turn that ran to its end. Of a stopped one nothing is stored; only when the clock here was first, the
// broker is told that it ended.
func (r *running) finish(ctx context.Context, commit wire.Commit) {
	switch r.reason {
	case "":
	case deadline:
		commit = wire.Commit{Outcome: "failed", Failure: &wire.Failure{
			Code: "deadline", Message: "the turn ran until its deadline", Retryable: true,
		}}
	default:
		r.Log.Warning("a turn was given up", "task", r.held.Task, "reason", r.reason)
		r.link.release(r.held)
		r.pull()
		return
	}
	select {
	case <-r.Drain:
		r.draining = true
	default:
	}
	commit.Pull = !r.draining
	if _, err := r.send(ctx, commit); err != nil {
		r.Log.Warning("a turn's commit was not taken", "task", r.held.Task, "error", err)
		r.link.release(r.held)
		r.pull()
	}
}

// send repeats a commit under the same fence, over as many connections as it takes, until it is answered or the deadline
// is over.
func (r *running) send(ctx context.Context, commit wire.Commit) (wire.Committed, error) {
	ctx, stop := context.WithDeadline(ctx, r.until.Add(commitGrace))
	defer stop()
	commit.Head, commit.Held = wire.Head{Type: "commit"}, r.held
	misread := 0
	for {
		reply, err := r.link.request(ctx, &commit, commitTimeout)
		if err == nil {
			var committed wire.Committed
			return committed, reply.Decode(&committed)
		}
		var refused *wire.Error
		pause := time.Millisecond
		switch {
		case errors.As(err, &refused) && refused.Code == "storage-full":
			pause = fullPause // the work is done: keep it until there is room
		case errors.As(err, &refused) && refused.Code == "protocol":
			if misread++; misread >= misreadMax {
				return wire.Committed{}, err
			}
		case errors.Is(err, ErrAway) && !r.link.isOver():
		default:
			return wire.Committed{}, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return wire.Committed{}, err
		}
	}
}

// checkpoint is called in the skill's goroutine.
func (r *running) checkpoint(commit wire.Commit) (int64, error) {
	committed, err := r.send(r.ctx, commit)
	var refused *wire.Error
	switch {
	case r.ctx.Err() != nil:
		return 0, agent.ErrStopped
	case errors.As(err, &refused):
		r.isLost(leaseLost)
		return 0, agent.ErrStopped
	case err != nil:
		return 0, err
	case committed.Status != "leased":
		r.isLost("its checkpoint was refused: the task is " + committed.Status)
		return 0, agent.ErrStopped
	case committed.StateVersion != nil:
		return *committed.StateVersion, nil
	case commit.State != nil:
		return commit.StateVersion + 1, nil
	}
	return commit.StateVersion, nil
}

func (r *running) isLost(reason string) {
	select {
	case r.lost <- reason:
	default: // it is known already
	}
}

// ask sends an act or a question about own tasks, again until it is answered; asking twice is harmless.
func (r *running) ask(message wire.Request) (wire.Message, error) {
	switch asked := message.(type) {
	case *wire.Act:
		asked.Held = r.held
	case *wire.Own:
		asked.Held = r.held
	case *wire.Recall:
		asked.Held = r.held
	}
	ctx, stop := context.WithTimeout(r.ctx, askPatience)
	defer stop()
	for pause := 50 * time.Millisecond; ; pause *= 2 {
		reply, err := r.link.request(ctx, message, askTimeout)
		var refused *wire.Error
		if errors.As(err, &refused) {
			if refused.Code == "fenced" {
				r.isLost(leaseLost)
				return reply, agent.ErrStopped
			}
			if refused.Code != "unavailable" {
				return reply, err
			}
		}
		if err == nil {
			return reply, nil
		}
		if pause > time.Second {
			pause = time.Second
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			if r.ctx.Err() != nil {
				return reply, agent.ErrStopped
			}
			return reply, agent.Unavailable("the fleet cannot be asked now: %v", err)
		}
	}
}
