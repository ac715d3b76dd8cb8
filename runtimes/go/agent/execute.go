package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"sutazai/wire"
)

const (
	resultBytesMax = 4 << 20
	carryBytesMax  = 1 << 20
	messageMax     = 2000 // characters of an error's message
	traceMax       = 4000 // bytes of a panic's stack
	roomBytes      = 1024 // for the parts of a commit that are added later
	stepsAtOnce    = 1000 // steps that one turn may run one after the other, without waiting
)

// panicked is a panic that was caught.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// Execute runs a turn and gives its commit, whatever the agent's code does; no I/O here. A panic fails the turn only.
// When the context was stopped meanwhile, the caller drops the commit.
func Execute(agent *Agent, turn wire.Turn, ctx *Context) wire.Commit {
	commit, err := execute(agent, turn, ctx)
	if err == nil {
		err = checkSize(commit)
	}
	if err != nil {
		return wire.Commit{Outcome: "failed", Failure: failure(err), StateVersion: ctx.StateVersion()}
	}
	return commit
}

func checkSize(commit wire.Commit) error {
	data, err := wire.Marshal(commit)
	if err != nil {
		return invalidOutput("the turn's commit is no JSON: %v", err)
	}
	if len(data) > wire.FrameBytesMax-roomBytes {
		return invalidOutput("result, state and emitted tasks have %d bytes together, more than a commit takes: "+
			"use Checkpoint between, or hand on a file's path", len(data))
	}
	return nil
}

func execute(agent *Agent, turn wire.Turn, ctx *Context) (wire.Commit, error) {
	if agent.wrong != nil {
		return wire.Commit{}, agent.wrong
	}
	found := agent.skill(turn.Task.Skill)
	if found == nil {
		return wire.Commit{}, notFound("%s has no skill %q; it has %s", agent.Name, turn.Task.Skill, agent.skillNames())
	}
	value, err := first(agent, found, turn, ctx)
	var waits *wait
	for count := 0; errors.As(err, &waits) && len(waits.calls) == 0; count++ {
		if count >= stepsAtOnce {
			return wire.Commit{}, NonRetryable("more than %d steps went on without waiting for anything", stepsAtOnce)
		}
		carry, mistake := carryOf(waits)
		if mistake != nil {
			return wire.Commit{}, mistake
		}
		value, err = next(agent, waits.step, nil, carry, ctx)
	}
	if waits = nil; errors.As(err, &waits) {
		return waiting(agent, waits, ctx)
	}
	if err != nil {
		return wire.Commit{}, err
	}
	return result(found, value, ctx)
}

func first(agent *Agent, found *skill, turn wire.Turn, ctx *Context) (any, error) {
	if turn.Task.Step != "" {
		return next(agent, turn.Task.Step, results(turn.Task.Results), turn.Task.Carry, ctx)
	}
	return guarded(func() (any, error) { return found.run(ctx, turn.Task.Input) })
}

func next(agent *Agent, name string, came []Result, carry json.RawMessage, ctx *Context) (any, error) {
	found, err := stepOf(agent, name)
	if err != nil {
		return nil, err
	}
	return guarded(func() (any, error) { return found.run(ctx, came, carry) })
}

func stepOf(agent *Agent, name string) (*step, error) {
	if found, there := agent.steps[name]; there {
		return found, nil
	}
	return nil, NonRetryable("%s has no step %q: declare it with agent.Step", agent.Name, name)
}

// guarded turns a panic into an error.
func guarded(run func() (any, error)) (value any, err error) {
	defer func() {
		if caught := recover(); caught != nil {
			value, err = nil, &panicked{caught, debug.Stack()}
		}
	}()
	return run()
}

func result(found *skill, value any, ctx *Context) (wire.Commit, error) {
	data, err := wire.Marshal(value)
	if err == nil {
		data, err = filled(found.output, data)
	}
	if err != nil {
		return wire.Commit{}, invalidOutput("%s returned what is no JSON: %v", found.name, err)
	}
	if len(data) > resultBytesMax {
		return wire.Commit{}, invalidOutput("%s returned %d bytes; the limit is %d: return a file's path", found.name, len(data), resultBytesMax)
	}
	ctx.mutex.Lock()
	defer ctx.mutex.Unlock()
	return wire.Commit{
		Outcome: "result", Result: data, State: ctx.changed(), StateVersion: ctx.version, Emits: ctx.emits, Keeps: ctx.keeps,
	}, nil
}

func carryOf(waits *wait) (json.RawMessage, error) {
	carry, err := wire.Marshal(waits.carry)
	if err != nil {
		return nil, NonRetryable("the carry of a wait is no JSON: %v", err)
	}
	if len(carry) > carryBytesMax {
		return nil, NonRetryable("the carry of a wait has %d bytes; the limit is %d", len(carry), carryBytesMax)
	}
	return carry, nil
}

func waiting(agent *Agent, waits *wait, ctx *Context) (wire.Commit, error) {
	if _, err := stepOf(agent, waits.step); err != nil {
		return wire.Commit{}, err
	}
	if waits.count < 0 || waits.count > len(waits.calls) {
		return wire.Commit{}, NonRetryable("a wait for the first %d of %d calls", waits.count, len(waits.calls))
	}
	carry, err := carryOf(waits)
	if err != nil {
		return wire.Commit{}, err
	}
	ctx.mutex.Lock()
	defer ctx.mutex.Unlock()
	emits, seen, tasks := append([]wire.Emit{}, ctx.emits...), map[string]bool{}, []string{}
	for _, call := range waits.calls {
		if seen[call.ID] {
			return wire.Commit{}, NonRetryable("a wait names the same call twice: make one call for each piece of work")
		}
		seen[call.ID] = true
		tasks = append(tasks, call.ID)
		emits = append(emits, call.emit)
	}
	if len(emits) > EmitsMax {
		return wire.Commit{}, NonRetryable("a turn emits at most %d tasks, not %d: split the work", EmitsMax, len(emits))
	}
	return wire.Commit{
		Outcome: "wait", Wait: &wire.Wait{Tasks: tasks, Then: waits.step, Carry: carry, Count: waits.count},
		State: ctx.changed(), StateVersion: ctx.version, Emits: emits, Keeps: ctx.keeps,
	}, nil
}

// failure writes what went wrong as the broker keeps it.
func failure(err error) *wire.Failure {
	out := &wire.Failure{Code: "skill-failed", Message: clean(err.Error(), messageMax), Retryable: true}
	detail := map[string]any{"type": fmt.Sprintf("%T", err)}
	var known *Error
	if errors.As(err, &known) {
		out.Code, out.Retryable = known.Code, known.Retryable
	}
	var caught *panicked
	if errors.As(err, &caught) {
		detail["type"], detail["traceback"] = "panic", clean(ownFrames(string(caught.stack)), traceMax)
	}
	if out.Message == "" {
		out.Message = fmt.Sprintf("%T", err)
	}
	out.Detail = detail
	return out
}

// ownFrames drops the frames of the panic itself from a stack.
func ownFrames(stack string) string {
	if at := strings.LastIndex(stack, "\npanic("); at >= 0 {
		if lines := strings.SplitN(stack[at+1:], "\n", 3); len(lines) == 3 {
			return lines[2]
		}
	}
	return stack
}

func clean(text string, most int) string {
	text = strings.ToValidUTF8(strings.TrimSpace(text), "?")
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most])
	}
	return text
}
