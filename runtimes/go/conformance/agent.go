// Package conformance is the agent of the conformance suite, tests/conformance, in Go.
//
// Why it exists: each language has an agent of this name with the same skills, so that one suite can judge all runtimes. It
// is linked into the worker, but no fleet has it: it has no folder with a manifest.
package conformance

import (
	"errors"
	"strings"
	"time"

	"sutazai/agent"
)

type value struct {
	Value any `json:"value" doc:"given back as it is"`
}

type none struct{}

type parts struct {
	Parts int `json:"parts" min:"0" max:"1000"`
}

type collected struct {
	IDs    []string `json:"ids"`
	Values []any    `json:"values"`
	Parts  int      `json:"parts"`
}

type remembered struct {
	Values []any `json:"values"`
}

type counting struct {
	Count        int `json:"count" min:"0" max:"1000"`
	Milliseconds int `json:"ms" default:"0" min:"0" max:"600000"`
}

type counted struct {
	Done    int `json:"done"`
	Attempt int `json:"attempt,omitempty"`
}

type failing struct {
	ForGood bool   `json:"for_good" default:"false"`
	Code    string `json:"code" default:"" doc:"fail with this code, for good"`
}

type strict struct {
	Number int `json:"number" min:"1" max:"5"`
}

type working struct {
	Milliseconds int `json:"ms" min:"0" max:"600000"`
}

type sized struct {
	Bytes int `json:"bytes" min:"0" max:"16777216"`
}

// Agent is the agent.
var Agent = agent.New("conformance",
	agent.Skill("echo", "Gives back what came.", func(_ *agent.Context, in value) (value, error) { return in, nil }),
	agent.Skill("fan", "Asks itself that many times and collects.", fan),
	agent.Step("collect", collect),
	agent.Skill("remember", "Appends to the session's state.", remember),
	agent.Skill("steps", "Counts in the state with a checkpoint after each step, then works for a while.", steps),
	agent.Skill("fail", "Fails, for good or not.", func(_ *agent.Context, in failing) (none, error) {
		switch {
		case in.Code != "":
			return none{}, &agent.Error{Code: in.Code, Message: "as asked"}
		case in.ForGood:
			return none{}, agent.NonRetryable("for good")
		}
		return none{}, errors.New("this time")
	}),
	agent.Skill("panic", "Breaks down.", func(*agent.Context, none) (none, error) { panic("as asked") }),
	agent.Skill("strict", "Takes a number from 1 to 5.", func(_ *agent.Context, in strict) (strict, error) { return in, nil }),
	agent.Skill("slow", "Waits, and says how far it is.", func(ctx *agent.Context, in working) (working, error) {
		ctx.Progress(0.5, "half way")
		return in, pause(ctx, in.Milliseconds)
	}),
	agent.Skill("busy", "Computes without a pause; as Go asks of such a loop, it looks at its context.", busy),
	agent.Skill("large", "Gives that many bytes.", func(_ *agent.Context, in sized) (string, error) {
		return strings.Repeat("x", in.Bytes), nil
	}),
	agent.Skill("gather", "Asks itself for that many bytes and measures.", gather),
	agent.Step("measure", measure),
)

func pause(ctx *agent.Context, milliseconds int) error {
	timer := time.NewTimer(time.Duration(milliseconds) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func busy(ctx *agent.Context, in working) (working, error) {
	for until := time.Now().Add(time.Duration(in.Milliseconds) * time.Millisecond); time.Now().Before(until); {
		if ctx.Err() != nil {
			return in, ctx.Err()
		}
	}
	return in, nil
}

func fan(ctx *agent.Context, in parts) (collected, error) {
	calls := make([]agent.Call, in.Parts)
	for i := range calls {
		call, err := ctx.Call("conformance", "echo", value{i})
		if err != nil {
			return collected{}, err
		}
		calls[i] = call
	}
	return collected{}, agent.Wait("collect", in, calls...)
}

func gather(ctx *agent.Context, in sized) (sized, error) {
	call, err := ctx.Call("conformance", "large", in)
	if err != nil {
		return sized{}, err
	}
	return sized{}, agent.Wait("measure", in, call)
}

func measure(_ *agent.Context, results []agent.Result, _ sized) (sized, error) {
	var text string
	err := results[0].Into(&text)
	return sized{len(text)}, err
}

func collect(_ *agent.Context, results []agent.Result, carry parts) (collected, error) {
	out := collected{Parts: carry.Parts}
	for _, found := range results {
		var said value
		if err := found.Into(&said); err != nil {
			return out, err
		}
		out.IDs, out.Values = append(out.IDs, found.Task), append(out.Values, said.Value)
	}
	return out, nil
}

func remember(ctx *agent.Context, in value) (remembered, error) {
	var state remembered
	if err := ctx.State(&state); err != nil {
		return state, err
	}
	state.Values = append(state.Values, in.Value)
	return state, ctx.SetState(state)
}

func steps(ctx *agent.Context, in counting) (counted, error) {
	var state counted
	if err := ctx.State(&state); err != nil {
		return state, err
	}
	for state.Done < in.Count {
		state.Done++
		if err := ctx.SetState(state); err != nil {
			return state, err
		}
		if err := ctx.Checkpoint(); err != nil {
			return state, err
		}
	}
	if err := pause(ctx, in.Milliseconds); err != nil {
		return state, err
	}
	return counted{state.Done, ctx.Task.Attempt}, nil
}
