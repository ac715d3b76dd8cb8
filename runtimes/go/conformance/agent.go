// Package conformance is an agent that does what the conformance suite of the protocol asks for, and nothing useful.
//
// Why it exists: every runtime hosts an agent of this name with the same skills, so that one suite can judge them all. It
// is linked into the worker, but no fleet has it: it has no folder with a manifest in src/sutazai/agents.
package conformance

import (
	"strings"
	"time"

	"sutazai/agent"
)

type value struct {
	Value any `json:"value" doc:"given back as it is"`
}

type none struct{}

type failing struct {
	Message   string `json:"message" default:"as asked"`
	Retryable bool   `json:"retryable" default:"true"`
	Code      string `json:"code" default:"skill-failed"`
}

type sleeping struct {
	Milliseconds int  `json:"ms" min:"0" max:"600000"`
	Deaf         bool `json:"deaf" default:"false" doc:"do not listen to cancellation"`
}

type counting struct {
	Count int `json:"count"`
}

type steps struct {
	Steps        int `json:"steps" min:"1" max:"1000"`
	Milliseconds int `json:"ms" default:"0" min:"0" max:"60000"`
}

type fanning struct {
	Agent string `json:"agent" default:"conformance"`
	Width int    `json:"width" min:"0" max:"1000"`
}

type sized struct {
	Bytes int `json:"bytes" min:"0" max:"16777216"`
}

type text struct {
	Text string `json:"text"`
}

type identifiers struct {
	IDs []string `json:"ids"`
}

type summed struct {
	Sum    int      `json:"sum"`
	Failed int      `json:"failed"`
	Tasks  []string `json:"tasks"`
}

type carried struct {
	Width int `json:"width"`
}

// Agent is the agent.
var Agent = agent.New("conformance",
	agent.Skill("echo", "Gives its input back.", func(_ *agent.Context, in value) (value, error) { return in, nil }),
	agent.Skill("fail", "Fails as it is told.", func(_ *agent.Context, in failing) (none, error) {
		return none{}, &agent.Error{Code: in.Code, Message: in.Message, Retryable: in.Retryable}
	}),
	agent.Skill("panic", "Breaks down.", func(*agent.Context, none) (none, error) { panic("as asked") }),
	agent.Skill("sleep", "Works for some time and says how far it is.", sleep),
	agent.Skill("count", "Counts in its session.", func(ctx *agent.Context, _ none) (counting, error) {
		return count(ctx)
	}),
	agent.Skill("checkpoint", "Counts in its session, with a checkpoint after each step.", checkpoint),
	agent.Skill("emit", "Hands echoes on without waiting.", func(ctx *agent.Context, in fanning) (identifiers, error) {
		out := identifiers{}
		for i := 0; i < in.Width; i++ {
			id, err := ctx.Emit(in.Agent, "echo", value{i})
			if err != nil {
				return out, err
			}
			out.IDs = append(out.IDs, id)
		}
		return out, nil
	}),
	agent.Skill("fan", "Waits for echoes and adds them up.", fan),
	agent.Step("collect", collect),
	agent.Skill("big", "Returns a text of so many bytes.", func(_ *agent.Context, in sized) (text, error) {
		return text{strings.Repeat("x", in.Bytes)}, nil
	}),
)

func sleep(ctx *agent.Context, in sleeping) (counting, error) {
	until := time.Now().Add(time.Duration(in.Milliseconds) * time.Millisecond)
	for count := 0; ; count++ {
		left := time.Until(until)
		if left <= 0 {
			return counting{count}, nil
		}
		ctx.Progress(1-left.Seconds()*1000/float64(in.Milliseconds), "asleep")
		if left > 50*time.Millisecond {
			left = 50 * time.Millisecond
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-ctx.Done():
			if !in.Deaf {
				return counting{count}, ctx.Err()
			}
			<-timer.C
		}
	}
}

func count(ctx *agent.Context) (counting, error) {
	var state counting
	if err := ctx.State(&state); err != nil {
		return state, err
	}
	state.Count++
	return state, ctx.SetState(state)
}

func checkpoint(ctx *agent.Context, in steps) (counting, error) {
	var state counting
	if err := ctx.State(&state); err != nil {
		return state, err
	}
	for state.Count < in.Steps {
		select {
		case <-time.After(time.Duration(in.Milliseconds) * time.Millisecond):
		case <-ctx.Done():
			return state, ctx.Err()
		}
		state.Count++
		if err := ctx.SetState(state); err != nil {
			return state, err
		}
		if err := ctx.Checkpoint(); err != nil {
			return state, err
		}
	}
	return state, nil
}

func fan(ctx *agent.Context, in fanning) (summed, error) {
	calls := make([]agent.Call, in.Width)
	for i := range calls {
		call, err := ctx.Call(in.Agent, "echo", value{i})
		if err != nil {
			return summed{}, err
		}
		calls[i] = call
	}
	return summed{}, agent.Wait("collect", carried{in.Width}, calls...)
}

func collect(_ *agent.Context, results []agent.Result, _ carried) (summed, error) {
	out := summed{}
	for _, found := range results {
		var said struct {
			Value int `json:"value"`
		}
		out.Tasks = append(out.Tasks, found.Task)
		if found.Into(&said) != nil {
			out.Failed++
		}
		out.Sum += said.Value
	}
	return out, nil
}
