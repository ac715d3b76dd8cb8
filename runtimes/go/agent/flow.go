package agent

import (
	"encoding/json"
	"fmt"

	"sutazai/wire"
)

// Call is a task that a turn hands to an agent; made by Context.Call, stored when the turn commits.
type Call struct {
	// ID of the task; the same when the turn is executed again.
	ID string

	emit wire.Emit
	set  bool // whether a priority was given
}

// CallOption says more of a call than whom and what.
type CallOption func(*callOptions)

type callOptions struct {
	key  string
	name string
	emit *Call
}

// Priority is 0 (the most urgent) to 9; without it a call has that of the task that makes it.
func Priority(priority int) CallOption {
	return func(o *callOptions) { o.emit.emit.Priority, o.emit.set = priority, true }
}

// Session of the other agent: its tasks run in order and share state.
func Session(session string) CallOption {
	return func(o *callOptions) { o.emit.emit.Session = textOrNil(session) }
}

// DeadlineMS is the time from the commit on, in milliseconds; without it the agent's default.
func DeadlineMS(milliseconds int64) CallOption {
	return func(o *callOptions) { o.emit.emit.DeadlineMS = &milliseconds }
}

// DelayMS lets the task begin only after so many milliseconds.
func DelayMS(milliseconds int64) CallOption {
	return func(o *callOptions) { o.emit.emit.DelayMS = milliseconds }
}

// Key sets apart calls of one place whose order may differ when the turn is executed again.
func Key(key string) CallOption { return func(o *callOptions) { o.key = key } }

// IdempotencyKey keeps a task from being stored when one with this key is there already.
func IdempotencyKey(key string) CallOption {
	return func(o *callOptions) { o.emit.emit.IdempotencyKey = textOrNil(key) }
}

// IdempotencyWindowMS lets the key be used again after so long; without it, as long as the task is kept.
func IdempotencyWindowMS(milliseconds int64) CallOption {
	return func(o *callOptions) { o.emit.emit.WindowMS = &milliseconds }
}

// AttemptsMax is how often the task may fail by itself until it is dead; without it the agent's default.
func AttemptsMax(attempts int) CallOption {
	return func(o *callOptions) { o.emit.emit.AttemptsMax = &attempts }
}

// Label names the task in a history, for people.
func Label(label string) CallOption { return func(o *callOptions) { o.emit.emit.Label = label } }

// Name names the task within this one, whatever step emits it: its id is Context.ChildID(name).
func Name(name string) CallOption { return func(o *callOptions) { o.name = name } }

func textOrNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// Result is how a call ended.
type Result struct {
	Task, Agent, Skill string
	// Status is "succeeded", "failed", "dead", "cancelled" or "expired"; after WaitFirst also one of an open task.
	Status string
	// Value is what the skill returned, as JSON; empty when it failed.
	Value json.RawMessage
	// Code and Message say why it failed.
	Code, Message string
}

// OK tells whether it succeeded, and its result is here: one that is too large for a turn has a code.
func (r Result) OK() bool { return r.Status == "succeeded" && r.Code == "" }

// Into reads what the skill returned; it fails when the call did.
func (r Result) Into(value any) error {
	if !r.OK() {
		why := r.Message
		if why == "" {
			why = r.Status
		}
		return fmt.Errorf("%s.%s %s: %s", r.Agent, r.Skill, r.Status, why)
	}
	if err := json.Unmarshal(r.Value, value); err != nil {
		return fmt.Errorf("the result of %s.%s: %w", r.Agent, r.Skill, err)
	}
	return nil
}

func results(entries []wire.Result) []Result {
	out := make([]Result, len(entries))
	for i, entry := range entries {
		out[i] = Result{Task: entry.Task, Agent: entry.Agent, Skill: entry.Skill, Status: entry.Status, Value: entry.Result}
		if entry.Error != nil {
			out[i].Code, out[i].Message = entry.Error.Code, entry.Error.Message
		}
	}
	return out
}

// IsOver tells whether it has ended, well or not.
func (r Result) IsOver() bool {
	switch r.Status {
	case "succeeded", "failed", "dead", "cancelled", "expired":
		return true
	}
	return false
}

type wait struct {
	step  string
	carry any
	calls []Call
	count int
}

func (w *wait) Error() string {
	return "the turn waits for other tasks; it goes on with the step " + w.step
}

// Wait is what a skill or step returns as its error to wait for other agents, as fs.SkipDir is one:
//
//	return Report{}, agent.Wait("collect", carry, calls...)
//
// The turn commits and its place is free; the step runs in a new turn when every call is done, failed ones too, and gets
// the results in the order of the calls. Without calls the step runs at once, in the same turn.
func Wait(step string, carry any, calls ...Call) error { return &wait{step, carry, calls, 0} }

// WaitFirst is a Wait that goes on when so many of the calls are done. The step gets all of them, the open ones with their
// status and no value; they run on, and a later wait may name them again.
func WaitFirst(count int, step string, carry any, calls ...Call) error {
	return &wait{step, carry, calls, count}
}
