package instance

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
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

// A skill that was asked to stop has this long to return; the broker orders the instance's end after 2 s without a word.
// Tests shorten it.
var stopPatience = time.Second

// AbandonedMax is how many skills that do not return may run on in a process. One more, and the broker's order ends the
// process with all that run in it.
const AbandonedMax = 4

// abandoned counts goroutines of this process whose turn is over and whose skill has not returned.
var abandoned atomic.Int64

// What became of a skill.
const (
	returned = 1 + iota
	left
)

type running struct {
	*instance
	turn   wire.Turn
	held   wire.Held
	until  time.Time
	ctx    *agent.Context
	cancel context.CancelFunc
	reason string

	state    atomic.Int32  // 0, returned or left
	left     *scratch      // its folder, once it is left
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
	go r.execute(done)
	commit := r.watch(ctx, done)
	if ctx.Err() != nil {
		return
	}
	r.finish(ctx, commit)
}

// execute runs the skill; one that was abandoned meanwhile is not counted any more once it has returned.
func (r *running) execute(done chan<- wire.Commit) {
	commit := agent.Execute(r.Agent, r.turn, r.ctx)
	if r.state.Swap(returned) == left {
		abandoned.Add(-1)
		r.Log.Warning("a skill that did not listen to its context has returned", "task", r.held.Task)
		r.left.remove()
		return
	}
	done <- commit
}

// abandon lets a skill that does not return run on, with its folder, and gives the instance back; false when too many do.
func (r *running) abandon() bool {
	if abandoned.Add(1) > AbandonedMax {
		abandoned.Add(-1)
		r.Log.Error("a skill does not listen to its context and too many run on already: this worker is about to be ended",
			"task", r.held.Task, "skill", r.turn.Task.Skill, "running_on", AbandonedMax)
		return false
	}
	r.left = r.instance.scratch
	if !r.state.CompareAndSwap(0, left) { // it returned just now
		abandoned.Add(-1)
		return false
	}
	r.instance.scratch = &scratch{}
	r.Log.Warning("a skill does not listen to its context: its turn is over, its goroutine runs on",
		"task", r.held.Task, "skill", r.turn.Task.Skill, "reason", r.reason, "running_on", abandoned.Load())
	return true
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
	var late <-chan time.Time // set when it was asked to stop
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
		case <-late:
			if r.abandon() {
				return wire.Commit{}
			}
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
		if r.reason != "" && late == nil {
			late = time.After(stopPatience)
		}
	}
}

func minimum(a, b time.Duration) time.Duration {
	if a < b {
		return a
	}
	return b
}

// stop asks the skill to return; what it returns is dropped. One that does not listen is abandoned after a time.
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
