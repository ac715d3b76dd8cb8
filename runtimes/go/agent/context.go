package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"sutazai/ids"
	"sutazai/wire"
)

const (
	// EmitsMax is how many tasks one turn may hand on.
	EmitsMax = 1000
	// StateBytesMax bounds a session's state, as JSON.
	StateBytesMax = 1 << 20
	inputBytesMax = 1 << 20
	progressMax   = 500 // characters
	priorityLast  = 9
	separator     = "\x1f"
	keptBytesMax  = 1 << 20 // of one value
	keptMax       = 20_000
	nameMax       = 200 // characters
	recalledMax   = 1000
)

// Surroundings is what a context needs of the instance that it lives in; nil parts make a context for tests of a skill.
type Surroundings struct {
	// Settings is what the manifest hands to the agent, as JSON.
	Settings json.RawMessage
	// Fleet is its name; Control is the socket of its control API; Scratch gives a private folder.
	Fleet   string
	Control string
	Scratch func() (string, error)
	Log     *Log
	// OnProgress is told that there is new progress.
	OnProgress func()
	// OnCheckpoint commits what was done so far and gives the state's version.
	OnCheckpoint func(commit wire.Commit) (int64, error)
	// OnAsk sends a request of a turn and gives its reply.
	OnAsk func(message wire.Request) (wire.Message, error)
}

// Context is all that a skill may touch of the fleet. It is a context.Context: it ends when the turn is cancelled, its
// deadline is over, or its lease is lost. A skill that ignores that is ended together with its worker.
//
// What a turn says here is stored when it commits, all or nothing. Its methods may be called from several goroutines.
type Context struct {
	context.Context
	// Task is what the skill works for.
	Task TaskInfo
	// Log writes JSON lines that name agent and task.
	Log *Log

	around  Surroundings
	mutex   sync.Mutex
	emits   []wire.Emit
	counts  map[string]int
	marker  string
	state   json.RawMessage // nil without a session
	before  json.RawMessage
	version int64
	keeps   map[string]json.RawMessage
	now     *wire.Progress
}

// NewContext makes the context of a turn.
func NewContext(parent context.Context, turn wire.Turn, around Surroundings) *Context {
	made := &Context{
		Context: parent, Task: infoOf(turn.Task), around: around, counts: map[string]int{}, version: turn.StateVersion,
	}
	if around.Log == nil {
		around.Log = NewLog(os.Stderr)
	}
	made.Log = around.Log.With("agent", turn.Task.Agent, "task", turn.Task.ID, "skill", turn.Task.Skill)
	if len(turn.Task.Results) > 0 {
		made.marker = turn.Task.Results[0].Task
	}
	if turn.Task.Session != "" {
		made.state = json.RawMessage("{}")
		if len(turn.State) > 0 && string(turn.State) != "null" {
			made.state = compact(turn.State)
		}
		made.before = made.state
	}
	return made
}

func compact(raw json.RawMessage) json.RawMessage {
	var buffer bytes.Buffer
	if json.Compact(&buffer, raw) != nil {
		return raw
	}
	return buffer.Bytes()
}

// Settings reads what the manifest hands to the agent; keys that it does not name keep their value.
func (c *Context) Settings(into any) error {
	if len(c.around.Settings) == 0 {
		return nil
	}
	if err := json.Unmarshal(c.around.Settings, into); err != nil {
		return NonRetryable("the settings of %s in the manifest do not fit: %v", c.Task.Agent, err)
	}
	return nil
}

// Fleet is the fleet's name; empty outside of one.
func (c *Context) Fleet() string { return c.around.Fleet }

// Scratch gives a private folder, gone when the instance goes.
func (c *Context) Scratch() (string, error) {
	if c.around.Scratch == nil {
		return "", NonRetryable("there is no scratch folder here")
	}
	return c.around.Scratch()
}

// DeadlineLeft is the time until the task expires.
func (c *Context) DeadlineLeft() time.Duration {
	until, there := c.Deadline()
	if !there {
		return time.Duration(1<<63 - 1)
	}
	return time.Until(until)
}

// Progress says how far the turn is: 0 to 1 (cut), and what it does now, for people.
func (c *Context) Progress(fraction float64, text string) {
	if !(fraction > 0) { // NaN too
		fraction = 0
	}
	if fraction > 1 {
		fraction = 1
	}
	if runes := []rune(text); len(runes) > progressMax {
		text = string(runes[:progressMax])
	}
	c.mutex.Lock()
	c.now = &wire.Progress{Fraction: fraction, Text: strings.ToValidUTF8(text, "?")}
	c.mutex.Unlock()
	if c.around.OnProgress != nil {
		c.around.OnProgress()
	}
}

// ProgressNow gives what was said last; nil when nothing was.
func (c *Context) ProgressNow() *wire.Progress {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.now
}

// State reads the session's state. A new session's is an empty object.
func (c *Context) State(into any) error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.state == nil {
		return errNoSession
	}
	if err := json.Unmarshal(c.state, into); err != nil {
		return NonRetryable("the stored state does not fit: %v", err)
	}
	return nil
}

var errNoSession = &Error{"non-retryable", "this task has no session, so it has no state: submit it with a session", false}

// SetState replaces the session's state; it is stored when the turn commits. It must be a JSON object of at most
// StateBytesMax bytes.
func (c *Context) SetState(value any) error {
	data, err := wire.Marshal(value)
	if err != nil {
		return NonRetryable("the state is no JSON: %v", err)
	}
	if len(data) == 0 || data[0] != '{' {
		return NonRetryable("the state is a JSON object")
	}
	if len(data) > StateBytesMax {
		return NonRetryable("the state has %d bytes; the limit is %d", len(data), StateBytesMax)
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.state == nil {
		return errNoSession
	}
	c.state = data
	return nil
}

// StateVersion grows by one with each commit that changed the state.
func (c *Context) StateVersion() int64 {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.version
}

// Call names a task for another agent, to put into a Wait. The input must become a JSON object.
func (c *Context) Call(agent, skill string, input any, options ...CallOption) (Call, error) {
	call := Call{}
	said := callOptions{emit: &call}
	for _, option := range options {
		option(&said)
	}
	data, err := callInput(input)
	if err != nil {
		return Call{}, err
	}
	if !call.set {
		call.emit.Priority = c.Task.Priority
	}
	if call.emit.Priority < 0 || call.emit.Priority > priorityLast {
		return Call{}, NonRetryable("a priority is 0 to %d, not %d", priorityLast, call.emit.Priority)
	}
	if call.ID = ids.NamedChildID(c.Task.ID, said.name); said.name == "" {
		call.ID = c.childID(agent, skill, said.key)
	}
	call.emit.ID, call.emit.Agent, call.emit.Skill, call.emit.Input = call.ID, agent, skill, data
	return call, nil
}

func callInput(input any) (json.RawMessage, error) {
	if input == nil {
		return json.RawMessage("{}"), nil
	}
	data, err := wire.Marshal(input)
	if err != nil {
		return nil, NonRetryable("the input of a call is no JSON: %v", err)
	}
	if data[0] != '{' {
		return nil, NonRetryable("the input of a call is an object of parameters, not %s", short(data))
	}
	if len(data) > inputBytesMax {
		return nil, NonRetryable("the input of a call has %d bytes; the limit is %d", len(data), inputBytesMax)
	}
	return data, nil
}

func short(data []byte) string {
	if len(data) > 60 {
		return string(data[:60]) + "…"
	}
	return string(data)
}

// childID names a child by its place: the step, the round (which results it got), the state's version, whom and what.
func (c *Context) childID(agent, skill, key string) string {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	// Its own agent too: one that took the task over as a fallback names other children than who had it before.
	site := strings.Join([]string{c.Task.Agent, c.Task.Step, c.marker, fmt.Sprint(c.version), agent, skill, key}, separator)
	index := c.counts[site]
	c.counts[site]++
	return ids.ChildTaskID(c.Task.ID, site, index)
}

// Emit hands a task to another agent without waiting for it; it is stored when the turn commits. It gives its id.
func (c *Context) Emit(agent, skill string, input any, options ...CallOption) (string, error) {
	call, err := c.Call(agent, skill, input, options...)
	if err != nil {
		return "", err
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if len(c.emits) >= EmitsMax {
		return "", NonRetryable("a turn emits at most %d tasks: use Checkpoint between", EmitsMax)
	}
	c.emits = append(c.emits, call.emit)
	return call.ID, nil
}

// Checkpoint stores the state and the emitted tasks now; the skill goes on. When the turn is lost later, the skill starts
// again from its beginning with the state of this moment.
func (c *Context) Checkpoint() error {
	c.mutex.Lock()
	commit := wire.Commit{Outcome: "checkpoint", State: c.changed(), StateVersion: c.version, Emits: c.emits, Keeps: c.keeps}
	known := c.state != nil
	c.mutex.Unlock()
	if !known {
		return errNoSession
	}
	if c.around.OnCheckpoint == nil {
		return NonRetryable("there is no broker here to store a checkpoint")
	}
	version, err := c.around.OnCheckpoint(commit)
	if err != nil {
		return err
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.version, c.emits, c.keeps, c.counts = version, nil, nil, map[string]int{}
	if commit.State != nil {
		c.before = commit.State
	}
	return nil
}

// changed gives the state when it is another than the stored one; the mutex is held.
func (c *Context) changed() json.RawMessage {
	if c.state == nil || bytes.Equal(c.state, c.before) {
		return nil
	}
	return c.state
}

// Act does something to the fleet; the agent's manifest must name the action in "powers". It is done at once, and again
// when the turn is executed again: actions are idempotent.
func (c *Context) Act(action string, arguments map[string]any) (json.RawMessage, error) {
	if arguments == nil {
		arguments = map[string]any{}
	}
	var done struct {
		Done json.RawMessage `json:"done"`
	}
	err := c.ask(&wire.Act{Head: wire.Head{Type: "act"}, Action: action, Arguments: arguments}, &done)
	return done.Done, err
}

// Own asks for tasks of this agent: do is "list", "tree" or "cancel" (the last two with a task's id).
func (c *Context) Own(do, of, reason string, limit int) (json.RawMessage, error) {
	var found struct {
		Tasks json.RawMessage `json:"tasks"`
	}
	err := c.ask(&wire.Own{Head: wire.Head{Type: "own"}, Do: do, Of: of, Reason: reason, Limit: limit}, &found)
	return found.Tasks, err
}

func (c *Context) ask(message wire.Request, into any) error {
	if c.around.OnAsk == nil {
		return NonRetryable("there is no fleet here to ask")
	}
	reply, err := c.around.OnAsk(message)
	var refused *wire.Error
	if errors.As(err, &refused) {
		return NonRetryable("%s", refused.Detail)
	}
	if err != nil {
		return err
	}
	return reply.Decode(into)
}

// ChildID gives the id of the task that this one emits under a name.
func (c *Context) ChildID(name string) string { return ids.NamedChildID(c.Task.ID, name) }

// Keep stores a value under a name for later turns of this task; with the commit, and as long as the task is known. For
// what is read now and then: unlike state and carry it is not handed over again in each turn.
func (c *Context) Keep(name string, value any) error {
	data, err := wire.Marshal(value)
	if err != nil {
		return NonRetryable("the value %q to keep is no JSON: %v", short([]byte(name)), err)
	}
	if len(data) > keptBytesMax || name == "" || len([]rune(name)) > nameMax {
		return NonRetryable("the value %q to keep has %d bytes; the limit is %d, and %d characters for its name",
			short([]byte(name)), len(data), keptBytesMax, nameMax)
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.keeps == nil {
		c.keeps = map[string]json.RawMessage{}
	}
	if len(c.keeps) >= keptMax {
		return NonRetryable("a turn keeps at most %d values", keptMax)
	}
	c.keeps[name] = data
	return nil
}

// Recall reads values that earlier turns kept, of this task or (of not empty) of another one of this agent; what there is
// not is left out.
func (c *Context) Recall(of string, names ...string) (map[string]json.RawMessage, error) {
	found, err := c.recall(of, names, func(part []string) *wire.Recall { return &wire.Recall{Names: part} })
	return found.Values, err
}

// Results reads how tasks stand that this agent's tasks emitted; one that does not exist is left out.
func (c *Context) Results(tasks ...string) ([]Result, error) {
	found, err := c.recall("", tasks, func(part []string) *wire.Recall { return &wire.Recall{Results: part} })
	return results(found.Results), err
}

// recall asks in parts, and again for what did not fit an answer.
func (c *Context) recall(of string, asked []string, make func([]string) *wire.Recall) (wire.Recalled, error) {
	all := wire.Recalled{Values: map[string]json.RawMessage{}}
	for len(asked) > 0 {
		count := len(asked)
		if count > recalledMax {
			count = recalledMax
		}
		message := make(asked[:count])
		message.Head, message.Of = wire.Head{Type: "recall"}, of
		var part wire.Recalled
		if err := c.ask(message, &part); err != nil {
			return all, err
		}
		for name, value := range part.Values {
			all.Values[name] = value
		}
		all.Results = append(all.Results, part.Results...)
		asked = append(append([]string{}, part.Left...), asked[count:]...)
	}
	return all, nil
}

// Go runs functions at the same time and waits for all; the first error is returned. A panic in one of them is an error
// too: one in a bare goroutine would end the worker, with all that it hosts.
func (c *Context) Go(functions ...func() error) error {
	failed := make(chan error, len(functions))
	for _, function := range functions {
		go func(function func() error) {
			defer func() {
				if value := recover(); value != nil {
					failed <- &panicked{value, debug.Stack()}
				}
			}()
			failed <- function()
		}(function)
	}
	var first error
	for range functions {
		if err := <-failed; err != nil && first == nil {
			first = err
		}
	}
	return first
}
