package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"sutazai/wire"
)

type amount struct {
	N int `json:"n" min:"0"`
}

type listing struct {
	Items []string       `json:"items"`
	Named map[string]int `json:"named"`
	Maybe *int           `json:"maybe"`
}

var sample = New("sample",
	Skill("double", "Doubles.", func(_ *Context, in amount) (amount, error) { return amount{in.N * 2}, nil }),
	Skill("nothing", "Returns nothing in it.", func(*Context, amount) (listing, error) { return listing{}, nil }),
	Skill("panic", "Breaks.", func(*Context, amount) (amount, error) {
		var missing map[string]int
		missing["x"] = 1
		return amount{}, nil
	}),
	Skill("inner-panic", "Breaks in a goroutine.", func(ctx *Context, _ amount) (amount, error) {
		return amount{}, ctx.Go(func() error { return nil }, func() error { panic("inside") })
	}),
	Skill("fail", "Fails.", func(*Context, amount) (amount, error) { return amount{}, fmt.Errorf("no luck: %w", io.EOF) }),
	Skill("refuse", "Refuses.", func(*Context, amount) (amount, error) {
		return amount{}, fmt.Errorf("wrapped: %w", NonRetryable("never"))
	}),
	Skill("nan", "Returns no number.", func(*Context, amount) (float64, error) { zero := 0.0; return zero / zero, nil }),
	Skill("large", "Returns too much.", func(*Context, amount) (string, error) { return strings.Repeat("x", 5<<20), nil }),
	Skill("ask", "Asks others.", func(ctx *Context, in amount) (amount, error) {
		calls := make([]Call, in.N)
		for i := range calls {
			call, err := ctx.Call("other", "work", amount{i}, Priority(2), Session("s"), DelayMS(5))
			if err != nil {
				return amount{}, err
			}
			calls[i] = call
		}
		return amount{}, Wait("gather", amount{in.N}, calls...)
	}),
	Step("gather", func(_ *Context, results []Result, carry amount) (amount, error) {
		total := carry.N * 100
		for _, result := range results {
			var found amount
			if err := result.Into(&found); err != nil {
				return amount{}, err
			}
			total += found.N
		}
		return amount{total}, nil
	}),
	Skill("lost", "Waits for a step that is not there.", func(ctx *Context, _ amount) (amount, error) {
		return amount{}, Wait("nowhere", nil)
	}),
	Skill("twice", "Names a call twice.", func(ctx *Context, _ amount) (amount, error) {
		call, err := ctx.Call("other", "work", nil)
		if err != nil {
			return amount{}, err
		}
		return amount{}, Wait("gather", nil, call, call)
	}),
	Skill("forever", "Goes on and on.", func(ctx *Context, _ amount) (amount, error) { return amount{}, Wait("again", nil) }),
	Step("again", func(*Context, []Result, any) (amount, error) { return amount{}, Wait("again", nil) }),
)

func turnOf(skill, input string) wire.Turn {
	return wire.Turn{Task: wire.Task{ID: "t_1", Agent: "sample", Skill: skill, Input: json.RawMessage(input), Priority: 4, Attempt: 1}}
}

func contextOf(turn wire.Turn) *Context {
	return NewContext(context.Background(), turn, Surroundings{Log: NewLog(io.Discard)})
}

func run(turn wire.Turn) wire.Commit { return Execute(sample, turn, contextOf(turn)) }

func TestATurnEndsInOneCommitWhateverTheSkillDoes(t *testing.T) {
	if err := sample.Err(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ skill, input, code, text string }{
		{"double", `{"n": -1}`, "invalid-input", "n: must be at least 0"},
		{"double", `{}`, "invalid-input", "n: is missing"},
		{"missing", `{}`, "not-found", "it has double, nothing"},
		{"panic", `{"n": 1}`, "skill-failed", "panic: assignment to entry in nil map"},
		{"inner-panic", `{"n": 1}`, "skill-failed", "panic: inside"},
		{"fail", `{"n": 1}`, "skill-failed", "no luck: EOF"},
		{"refuse", `{"n": 1}`, "non-retryable", "wrapped: never"},
		{"nan", `{"n": 1}`, "invalid-output", "no JSON"},
		{"large", `{"n": 1}`, "invalid-output", "return a file's path"},
		{"lost", `{"n": 1}`, "non-retryable", `no step "nowhere"`},
		{"twice", `{"n": 1}`, "non-retryable", "the same call twice"},
		{"forever", `{"n": 1}`, "non-retryable", "steps went on without waiting"},
		{"ask", `{"n": 1001}`, "non-retryable", "at most 1000 tasks"},
	} {
		commit := run(turnOf(c.skill, c.input))
		if commit.Outcome != "failed" || commit.Failure.Code != c.code || !strings.Contains(commit.Failure.Message, c.text) {
			t.Errorf("%s %s: %+v", c.skill, c.input, commit.Failure)
		}
		if retryable := c.code == "skill-failed"; commit.Failure != nil && commit.Failure.Retryable != retryable {
			t.Errorf("%s: retryable is %v", c.skill, !retryable)
		}
	}
	if commit := run(turnOf("double", `{"n": 21}`)); commit.Outcome != "result" || string(commit.Result) != `{"n":42}` {
		t.Errorf("%+v", commit)
	}
	if commit := run(turnOf("nothing", `{"n": 0}`)); string(commit.Result) != `{"items":[],"maybe":null,"named":{}}` {
		t.Errorf("a list that is nil is an empty one: %s", commit.Result)
	}
	trace := run(turnOf("panic", `{"n": 1}`)).Failure.Detail.(map[string]any)["traceback"].(string)
	if !strings.Contains(trace, "execute_test.go") {
		t.Errorf("a panic says where it was: %s", trace)
	}
}

func TestAWaitCommitsItsCallsAndGoesOnWithTheirResults(t *testing.T) {
	commit := run(turnOf("ask", `{"n": 2}`))
	again := run(turnOf("ask", `{"n": 2}`))
	if commit.Outcome != "wait" || len(commit.Emits) != 2 || commit.Wait.Then != "gather" || string(commit.Wait.Carry) != `{"n":2}` {
		t.Fatalf("%+v", commit)
	}
	first := commit.Emits[0]
	if first.Priority != 2 || *first.Session != "s" || first.DelayMS != 5 || string(first.Input) != `{"n":0}` || first.DeadlineMS != nil {
		t.Errorf("%+v", first)
	}
	if commit.Wait.Tasks[0] == commit.Wait.Tasks[1] || commit.Wait.Tasks[1] != again.Wait.Tasks[1] {
		t.Error("a turn that is executed again names the same children, each another")
	}
	next := turnOf("ask", `{"n": 2}`)
	next.Task.Step, next.Task.Carry = "gather", commit.Wait.Carry
	next.Task.Results = []wire.Result{
		{Task: commit.Wait.Tasks[0], Status: "succeeded", Result: json.RawMessage(`{"n": 3}`)},
		{Task: commit.Wait.Tasks[1], Status: "succeeded", Result: json.RawMessage(`{"n": 4}`)},
	}
	if end := run(next); string(end.Result) != `{"n":207}` {
		t.Errorf("%+v", end)
	}
	next.Task.Results[1] = wire.Result{Agent: "other", Skill: "work", Status: "dead", Error: &wire.Failure{Message: "gone"}}
	if end := run(next); end.Outcome != "failed" || end.Failure.Message != "other.work dead: gone" {
		t.Errorf("%+v", end.Failure)
	}
	if end := run(turnOf("ask", `{"n": 0}`)); string(end.Result) != `{"n":0}` {
		t.Errorf("a wait for nothing goes on at once: %+v", end)
	}
}

func TestStateIsWrittenOnlyWhenItChanged(t *testing.T) {
	turn := turnOf("double", `{"n": 1}`)
	var value map[string]int
	if err := contextOf(turn).State(&value); err == nil || !strings.Contains(err.Error(), "has no session") {
		t.Errorf("%v", err)
	}
	turn.Task.Session, turn.State, turn.StateVersion = "s", json.RawMessage(`{"a": 1}`), 7
	ctx := contextOf(turn)
	if err := ctx.State(&value); err != nil || value["a"] != 1 {
		t.Fatalf("%v %v", value, err)
	}
	if err := ctx.SetState(value); err != nil || Execute(sample, turn, ctx).State != nil {
		t.Errorf("the same state is written again: %v", err)
	}
	value["a"] = 2
	if err := ctx.SetState(value); err != nil {
		t.Fatal(err)
	}
	if commit := Execute(sample, turn, ctx); string(commit.State) != `{"a":2}` || commit.StateVersion != 7 {
		t.Errorf("%+v", commit)
	}
	failing := turn
	failing.Task.Skill = "fail"
	if commit := Execute(sample, failing, ctx); commit.State != nil || commit.Emits != nil {
		t.Error("a turn that failed stores state")
	}
	for name, wrong := range map[string]any{"a list": []int{1}, "too large": map[string]string{"x": strings.Repeat("x", 1<<20)}, "no JSON": func() {}} {
		var known *Error
		if err := ctx.SetState(wrong); !errors.As(err, &known) || known.Retryable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestACheckpointStoresAndCountsAnew(t *testing.T) {
	turn := turnOf("double", `{"n": 1}`)
	turn.Task.Session = "s"
	var stored []wire.Commit
	ctx := NewContext(context.Background(), turn, Surroundings{OnCheckpoint: func(commit wire.Commit) (int64, error) {
		stored = append(stored, commit)
		return int64(len(stored)), nil
	}})
	ids := map[string]bool{}
	for i := 0; i < 3; i++ {
		id, err := ctx.Emit("other", "work", nil)
		if err != nil {
			t.Fatal(err)
		}
		ids[id] = true
		if err = ctx.SetState(amount{i}); err != nil {
			t.Fatal(err)
		}
		if err = ctx.Checkpoint(); err != nil {
			t.Fatal(err)
		}
	}
	if len(ids) != 3 || len(stored) != 3 || len(stored[2].Emits) != 1 || stored[2].StateVersion != 2 {
		t.Errorf("%d ids, %+v", len(ids), stored)
	}
	if commit := Execute(sample, turn, ctx); commit.State != nil || len(commit.Emits) != 0 || commit.StateVersion != 3 {
		t.Errorf("what is stored is stored again: %+v", commit)
	}
}

func TestACallThatCannotBeIsRefused(t *testing.T) {
	ctx := contextOf(turnOf("double", `{"n": 1}`))
	for name, call := range map[string]func() error{
		"priority": func() error { _, err := ctx.Call("a", "b", nil, Priority(10)); return err },
		"a text":   func() error { _, err := ctx.Call("a", "b", "text"); return err },
		"too much": func() error {
			_, err := ctx.Call("a", "b", map[string]string{"x": strings.Repeat("x", 1<<20)})
			return err
		},
	} {
		if call() == nil {
			t.Errorf("%s is taken", name)
		}
	}
	call, err := ctx.Call("a", "b", nil)
	if err != nil || call.emit.Priority != 4 {
		t.Errorf("a call takes over its task's priority: %+v %v", call, err)
	}
}

func TestADeclarationThatIsWrongFailsEachTurnAndItsDescription(t *testing.T) {
	for want, wrong := range map[string]*Agent{
		"has no skill": New("empty"),
		"two skills x": New("double", Skill("x", "Doc.", double), Skill("x", "Doc.", double)),
		"two steps x":  New("steps", Skill("x", "Doc.", double), Step("x", step0), Step("x", step0)),
		"a sentence":   New("mute", Skill("x", "", double)),
		"is no struct": New("flat", Skill("x", "Doc.", func(*Context, int) (int, error) { return 0, nil })),
	} {
		if _, err := wrong.Describe(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		turn := turnOf("x", `{"n": 1}`)
		if commit := Execute(wrong, turn, contextOf(turn)); commit.Outcome != "failed" || commit.Failure.Code != "bad-config" {
			t.Errorf("%s: %+v", want, commit)
		}
	}
}

func double(_ *Context, in amount) (amount, error)     { return in, nil }
func step0(*Context, []Result, amount) (amount, error) { return amount{}, nil }

func TestProgressIsCutToItsBounds(t *testing.T) {
	told := 0
	ctx := NewContext(context.Background(), turnOf("double", `{}`), Surroundings{OnProgress: func() { told++ }})
	zero := 0.0
	ctx.Progress(zero/zero, strings.Repeat("é", 600)+"\xff")
	if now := ctx.ProgressNow(); now.Fraction != 0 || len([]rune(now.Text)) != 500 || told != 1 {
		t.Errorf("%+v", now)
	}
	ctx.Progress(7, "x")
	if ctx.ProgressNow().Fraction != 1 || ctx.DeadlineLeft() < time.Hour {
		t.Error("it is not cut")
	}
}

func TestAWaitForTheFirstSaysHowMany(t *testing.T) {
	race := New("race",
		Skill("go", "Races.", func(ctx *Context, in amount) (amount, error) {
			first, err := ctx.Call("other", "work", nil, Name("left"), Label("left lane"), AttemptsMax(2), IdempotencyKey("k"), IdempotencyWindowMS(9))
			if err != nil {
				return amount{}, err
			}
			second, err := ctx.Call("other", "work", nil)
			if err != nil {
				return amount{}, err
			}
			if first.ID != ctx.ChildID("left") || first.ID == second.ID {
				t.Error("a named child has the id of its name")
			}
			return amount{}, WaitFirst(in.N, "end", nil, first, second)
		}),
		Step("end", func(*Context, []Result, any) (amount, error) { return amount{}, nil }),
	)
	turn := turnOf("go", `{"n": 1}`)
	commit := Execute(race, turn, contextOf(turn))
	if commit.Outcome != "wait" || commit.Wait.Count != 1 || commit.Emits[0].Label != "left lane" || *commit.Emits[0].AttemptsMax != 2 || *commit.Emits[0].WindowMS != 9 {
		t.Errorf("%+v %+v", commit.Wait, commit.Failure)
	}
	turn = turnOf("go", `{"n": 3}`)
	if commit = Execute(race, turn, contextOf(turn)); commit.Failure == nil || commit.Failure.Code != "non-retryable" {
		t.Errorf("the first three of two: %+v", commit)
	}
	if (Result{Status: "leased"}).IsOver() || !(Result{Status: "dead"}).IsOver() {
		t.Error("what is open and what is over is mixed up")
	}
}

func TestWhatIsKeptIsStoredWithTheCommitAndRecalledInParts(t *testing.T) {
	turn := turnOf("double", `{"n": 1}`)
	asked := 0
	ctx := NewContext(context.Background(), turn, Surroundings{Log: NewLog(io.Discard), OnAsk: func(message wire.Request) (wire.Message, error) {
		recall := message.(*wire.Recall)
		asked++
		left := `[]`
		if asked == 1 {
			left = `["b"]`
		}
		if recall.Type != "recall" || recall.Of != "t_0" {
			t.Errorf("%+v", recall)
		}
		return wire.Message{Type: "recalled", JSON: []byte(fmt.Sprintf(`{"values": {%q: %d}, "results": [], "left": %s}`, recall.Names[0], asked, left))}, nil
	}})
	if err := ctx.Keep("a", amount{5}); err != nil {
		t.Fatal(err)
	}
	if commit := Execute(sample, turn, ctx); string(commit.Keeps["a"]) != `{"n":5}` {
		t.Errorf("%+v", commit)
	}
	found, err := ctx.Recall("t_0", "a", "b")
	if err != nil || asked != 2 || string(found["a"]) != "1" || string(found["b"]) != "2" {
		t.Errorf("%v %v, asked %d times", found, err, asked)
	}
	for name, wrong := range map[string]func() error{
		"no name": func() error { return ctx.Keep("", 1) }, "a long name": func() error { return ctx.Keep(strings.Repeat("x", 201), 1) },
		"too large": func() error { return ctx.Keep("x", strings.Repeat("x", 1<<20)) }, "no JSON": func() error { return ctx.Keep("x", func() {}) },
	} {
		if wrong() == nil {
			t.Errorf("%s is kept", name)
		}
	}
}
