// Package agent is how an agent is written in Go: typed functions that become its skills.
//
//	var Agent = agent.New("adder",
//		agent.Skill("add", "Adds two numbers.", func(ctx *agent.Context, in Terms) (Sum, error) {
//			return Sum{in.A + in.B}, nil
//		}),
//	)
//
// Why it exists: every door to a skill (HTTP, command line, other agents) is made from its types. The schemas, the checks
// of inputs and the defaults come out of the struct's tags, see schemaOf.
package agent

import (
	"encoding/json"
	"fmt"
	"reflect"
	"sort"
	"strings"

	"sutazai/wire"
)

// Agent is a named set of skills and steps.
type Agent struct {
	Name   string
	skills []*skill
	steps  map[string]*step
	wrong  error
}

// Part is a skill or a step of an agent.
type Part interface{ join(agent *Agent) error }

type skill struct {
	name, doc string
	input     *node
	output    *node
	run       func(ctx *Context, input json.RawMessage) (any, error)
	wrong     error
}

type step struct {
	name string
	run  func(ctx *Context, results []Result, carry json.RawMessage) (any, error)
}

// New makes an agent. What is wrong with its declaration is told by Err, and by each turn.
func New(name string, parts ...Part) *Agent {
	made := &Agent{Name: name, steps: map[string]*step{}}
	for _, part := range parts {
		if err := part.join(made); err != nil && made.wrong == nil {
			made.wrong = &Error{"bad-config", fmt.Sprintf("%s: %v", name, err), false}
		}
	}
	if len(made.skills) == 0 && made.wrong == nil {
		made.wrong = &Error{"bad-config", name + ": the agent has no skill", false}
	}
	return made
}

// Err says what is wrong with the declaration.
func (a *Agent) Err() error { return a.wrong }

func (a *Agent) skill(name string) *skill {
	for _, found := range a.skills {
		if found.name == name {
			return found
		}
	}
	return nil
}

func (a *Agent) skillNames() string {
	names := make([]string, len(a.skills))
	for i, found := range a.skills {
		names[i] = found.name
	}
	return strings.Join(names, ", ")
}

// Skill declares a skill: its name, one sentence for people and models, and the function.
//
// In is a struct: its exported fields are the parameters. Out is any type that JSON can hold. When the function's error is
// a Wait, the turn is not the task's last.
func Skill[In, Out any](name, doc string, function func(ctx *Context, in In) (Out, error)) Part {
	made := &skill{name: name, doc: doc}
	made.input, made.wrong = schemaOf(typeOf[In](), true)
	if made.wrong == nil {
		made.output, made.wrong = schemaOf(typeOf[Out](), false)
	}
	if made.wrong == nil && made.input.kind != kindObject {
		made.wrong = fmt.Errorf("its input is no struct")
	}
	made.run = func(ctx *Context, input json.RawMessage) (any, error) {
		in, err := read[In](made.input, input, "input")
		if err != nil {
			return nil, err
		}
		return function(ctx, in)
	}
	return made
}

func (s *skill) join(agent *Agent) error {
	if s.wrong != nil {
		return fmt.Errorf("the skill %s: %w", s.name, s.wrong)
	}
	if agent.skill(s.name) != nil {
		return fmt.Errorf("there are two skills %s", s.name)
	}
	if s.name == "" || s.doc == "" {
		return fmt.Errorf("the skill %q needs a name and a sentence that says what it does", s.name)
	}
	agent.skills = append(agent.skills, s)
	return nil
}

// Step declares what a Wait goes on with. Carry is what the wait carried; Out is as in the skill that waits.
func Step[Carry, Out any](name string, function func(ctx *Context, results []Result, carry Carry) (Out, error)) Part {
	return &step{name, func(ctx *Context, results []Result, raw json.RawMessage) (any, error) {
		var carry Carry
		if len(raw) > 0 {
			if err := json.Unmarshal(raw, &carry); err != nil {
				return nil, InvalidInput("the carry does not fit: %v", err)
			}
		}
		return function(ctx, results, carry)
	}}
}

func (s *step) join(agent *Agent) error {
	if _, there := agent.steps[s.name]; there {
		return fmt.Errorf("there are two steps %s", s.name)
	}
	agent.steps[s.name] = s
	return nil
}

func typeOf[T any]() reflect.Type { return reflect.TypeOf((*T)(nil)).Elem() }

// Description is an agent as the plan and the gateway know it.
type Description struct {
	Name   string             `json:"name"`
	Skills []SkillDescription `json:"skills"`
}

// SkillDescription holds a skill's JSON schemas.
type SkillDescription struct {
	Name        string         `json:"name"`
	Description string         `json:"description"`
	Input       map[string]any `json:"input"`
	Output      map[string]any `json:"output"`
}

// Describe writes the agent's skills with their schemas.
func (a *Agent) Describe() (Description, error) {
	if a.wrong != nil {
		return Description{}, a.wrong
	}
	out := Description{Name: a.Name}
	for _, found := range a.skills {
		input := found.input.schema()
		input["title"] = found.name
		out.Skills = append(out.Skills, SkillDescription{found.name, found.doc, input, found.output.schema()})
	}
	return out, nil
}

// SkillNames lists the skills in their order.
func (d Description) SkillNames() []string {
	names := make([]string, len(d.Skills))
	for i, found := range d.Skills {
		names[i] = found.Name
	}
	sort.Strings(names)
	return names
}

// TaskInfo is the task that a skill works for.
type TaskInfo struct {
	// ID is the idempotency key for effects outside of the fleet.
	ID, Agent, Skill string
	// Session is empty for none; Parent is the task whose turn made this one; Step is empty in the first turn.
	Session, Parent, Step string
	// Attempt is 1 in the first try; Priority is 0 (the most urgent) to 9.
	Attempt, Priority int
	// CreatedMS is when it was accepted, wall clock.
	CreatedMS int64
}

func infoOf(task wire.Task) TaskInfo {
	return TaskInfo{
		ID: task.ID, Agent: task.Agent, Skill: task.Skill, Session: task.Session, Parent: task.Parent, Step: task.Step,
		Attempt: task.Attempt, Priority: task.Priority, CreatedMS: task.CreatedMS,
	}
}
