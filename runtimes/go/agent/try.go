package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"sutazai/wire"
)

const tryTasksMax = 10_000

// Trial runs an agent alone, without a fleet: sessions live in memory, calls of the agent to itself are run, those to
// others fail. For tests and for trying an agent out; nothing is durable, nothing is tried again.
type Trial struct {
	agent    *Agent
	settings json.RawMessage
	states   map[string]json.RawMessage
	kept     map[string]map[string]json.RawMessage // by task
	number   int
}

// NewTrial makes a trial.
func NewTrial(agent *Agent) *Trial { return NewTrialWith(agent, nil) }

// NewTrialWith makes a trial with settings, as the manifest gives them.
func NewTrialWith(agent *Agent, settings json.RawMessage) *Trial {
	return &Trial{
		agent: agent, settings: settings, states: map[string]json.RawMessage{}, kept: map[string]map[string]json.RawMessage{},
	}
}

// TrialTask is what is asked for.
type TrialTask struct {
	Skill   string          `json:"skill"`
	Input   json.RawMessage `json:"input"`
	Session string          `json:"session"`
	// DeadlineMS is 60 000 when nothing is said.
	DeadlineMS int64 `json:"deadline_ms"`
}

// TrialResult is how it ended.
type TrialResult struct {
	Status string          `json:"status"`
	Result json.RawMessage `json:"result"`
	Error  *wire.Failure   `json:"error"`
}

// Run runs a task with all that comes out of it.
func (t *Trial) Run(ctx context.Context, task TrialTask) TrialResult {
	if task.DeadlineMS == 0 {
		task.DeadlineMS = 60_000
	}
	ctx, stop := context.WithTimeout(ctx, time.Duration(task.DeadlineMS)*time.Millisecond)
	defer stop()
	t.number++
	return t.turns(ctx, wire.Task{
		ID: fmt.Sprintf("t_trial%d", t.number), Agent: t.agent.Name, Skill: task.Skill, Input: task.Input,
		Session: task.Session, Priority: 5, Attempt: 1, CreatedMS: time.Now().UnixMilli(),
	})
}

func (t *Trial) turns(ctx context.Context, task wire.Task) TrialResult {
	for {
		if t.number++; t.number > tryTasksMax {
			return TrialResult{Status: "failed", Error: &wire.Failure{Code: "refused", Message: "too many tasks for a trial"}}
		}
		turn := wire.Turn{Task: task, State: t.states[task.Session]}
		around := Surroundings{Log: NewLog(io.Discard), Settings: t.settings, OnCheckpoint: func(commit wire.Commit) (int64, error) {
			t.store(ctx, task, commit)
			return commit.StateVersion + 1, nil
		}, OnAsk: func(message wire.Request) (wire.Message, error) { return t.recall(task.ID, message) }}
		commit := Execute(t.agent, turn, NewContext(ctx, turn, around))
		switch commit.Outcome {
		case "failed":
			return TrialResult{Status: "failed", Error: commit.Failure}
		case "result":
			t.store(ctx, task, commit)
			return TrialResult{Status: "succeeded", Result: commit.Result}
		}
		done := t.store(ctx, task, commit)
		task.Step, task.Carry, task.Results = commit.Wait.Then, commit.Wait.Carry, nil
		for _, id := range commit.Wait.Tasks {
			task.Results = append(task.Results, done[id])
		}
	}
}

// store keeps a commit's state and runs what it emits.
func (t *Trial) store(ctx context.Context, task wire.Task, commit wire.Commit) map[string]wire.Result {
	if commit.State != nil {
		t.states[task.Session] = commit.State
	}
	for name, value := range commit.Keeps {
		if t.kept[task.ID] == nil {
			t.kept[task.ID] = map[string]json.RawMessage{}
		}
		t.kept[task.ID][name] = value
	}
	done := map[string]wire.Result{}
	for _, emit := range commit.Emits {
		result := wire.Result{Task: emit.ID, Agent: emit.Agent, Skill: emit.Skill, Status: "failed"}
		if emit.Agent != t.agent.Name {
			result.Error = &wire.Failure{Code: "unavailable", Message: "there is only one agent in a trial"}
			done[emit.ID] = result
			continue
		}
		inner := wire.Task{ID: emit.ID, Agent: emit.Agent, Skill: emit.Skill, Input: emit.Input, Attempt: 1}
		if emit.Session != nil {
			inner.Session = *emit.Session
		}
		ended := t.turns(ctx, inner)
		result.Status, result.Result, result.Error = ended.Status, ended.Result, ended.Error
		done[emit.ID] = result
	}
	return done
}

// recall answers for what was kept; other questions need a fleet.
func (t *Trial) recall(task string, message wire.Request) (wire.Message, error) {
	asked, ok := message.(*wire.Recall)
	if !ok || len(asked.Results) > 0 {
		return wire.Message{}, NonRetryable("there is no fleet in a trial to ask")
	}
	if asked.Of != "" {
		task = asked.Of
	}
	said := wire.Recalled{Values: map[string]json.RawMessage{}}
	for _, name := range asked.Names {
		if value, there := t.kept[task][name]; there {
			said.Values[name] = value
		}
	}
	data, err := wire.Marshal(said)
	return wire.Message{Type: "recalled", JSON: data}, err
}
