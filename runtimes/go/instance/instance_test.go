package instance

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"sutazai/agent"
)

func TestAnInstanceSaysWhoItIsPullsRunsAndCommits(t *testing.T) {
	broker := newFakeBroker(t)
	ended, _ := start(t, broker, nil)
	p := broker.accept()
	if p.hello["role"] != "instance" || p.hello["ticket"] != "k_1" || p.hello["token"] != "secret" || p.hello["held"] != nil {
		t.Errorf("%v", p.hello)
	}
	p.expect("pull")
	p.turn("t_1", 3, "echo", fields{"value": 12345678901234567}, nil)
	commit := p.expect("commit")
	if commit["outcome"] != "result" || commit["fence"] != 3.0 || commit["task"] != "t_1" || commit["pull"] != true {
		t.Errorf("%v", commit)
	}
	p.committed(commit, "succeeded")
	p.turn("t_2", 4, "fail", fields{"code": "damaged"}, nil)
	commit = p.expect("commit")
	failure, _ := commit["error"].(fields)
	if commit["outcome"] != "failed" || failure["code"] != "damaged" || failure["retryable"] != false {
		t.Errorf("%v", commit)
	}
	p.committed(commit, "failed")
	p.turn("t_3", 5, "panic", fields{}, nil)
	p.committed(p.expect("commit"), "queued")
	p.send(fields{"t": "rest"})
	p.bye()
	if end := await(t, ended); end.Reason != "ok" {
		t.Error(end)
	}
}

func TestALongTurnSendsHeartbeatsWithItsProgress(t *testing.T) {
	broker := newFakeBroker(t)
	start(t, broker, nil)
	p := broker.accept()
	p.turn("t_1", 1, "slow", fields{"ms": 400}, nil)
	beats, told := 0, 0
	for {
		message, err := p.read()
		if err != nil {
			t.Fatal(err)
		}
		if message["t"] == "commit" {
			break
		}
		if message["t"] == "heartbeat" {
			beats++
			if progress, ok := message["progress"].(fields); ok && progress["text"] == "half way" {
				told++
			}
		}
	}
	if beats < 2 || told < 1 {
		t.Errorf("%d heartbeats, %d with progress", beats, told)
	}
}

func TestACancelledTurnStoresNothingAndTheNextIsAskedFor(t *testing.T) {
	for name, order := range map[string]fields{
		"cancel":     {"t": "cancel", "task": "t_1", "fence": 1},
		"lease":      {"t": "lease", "task": "t_1", "fence": 1, "ok": true, "cancel": true},
		"lease lost": {"t": "lease", "task": "t_1", "fence": 1, "ok": false, "cancel": false},
	} {
		broker := newFakeBroker(t)
		start(t, broker, nil)
		p := broker.accept()
		p.expect("pull")
		p.turn("t_1", 1, "slow", fields{"ms": 60_000}, nil)
		p.expect("heartbeat")
		p.send(fields{"t": "cancel", "task": "t_1", "fence": 9}) // another turn's
		p.send(order)
		p.expect("pull")
		p.turn("t_2", 2, "echo", fields{"value": name}, nil)
		if commit := p.expect("commit"); commit["task"] != "t_2" {
			t.Errorf("%s: %v", name, commit)
		}
	}
}

func TestADeadlineHereIsToldAsAFailure(t *testing.T) {
	broker := newFakeBroker(t)
	start(t, broker, nil)
	p := broker.accept()
	p.turn("t_1", 1, "slow", fields{"ms": 60_000}, fields{"deadline_left_ms": 100})
	commit := p.expect("commit")
	if failure, _ := commit["error"].(fields); failure["code"] != "deadline" || failure["retryable"] != true {
		t.Errorf("%v", commit)
	}
}

func TestALostConnectionInATurnComesBackWithWhatIsHeld(t *testing.T) {
	broker := newFakeBroker(t)
	start(t, broker, nil)
	p := broker.accept()
	p.turn("t_1", 8, "slow", fields{"ms": 600}, nil)
	p.expect("heartbeat")
	_ = p.stream.Close()
	p = broker.accept()
	held, _ := p.hello["held"].(fields)
	if held["task"] != "t_1" || held["fence"] != 8.0 {
		t.Errorf("%v", p.hello)
	}
	p.expect("heartbeat") // at once, so that the new broker sees it live
	commit := p.expect("commit")
	_ = p.stream.Close() // before it is answered
	p = broker.accept()
	if held, _ = p.hello["held"].(fields); held["fence"] != 8.0 {
		t.Errorf("what is not answered is still held: %v", p.hello)
	}
	again := p.expect("commit")
	if again["fence"] != commit["fence"] || fmt.Sprint(again["result"]) != fmt.Sprint(commit["result"]) {
		t.Errorf("the commit is not repeated as it was: %v %v", commit, again)
	}
	p.committed(again, "succeeded")
	_ = p.stream.Close()
	p = broker.accept()
	if p.hello["held"] != nil {
		t.Errorf("what is committed is held: %v", p.hello)
	}
	p.expect("pull")
}

func TestABrokerThatIsAwayIsWaitedForAndThenLeft(t *testing.T) {
	broker := newFakeBroker(t)
	ended, _ := start(t, broker, nil)
	p := broker.accept()
	p.expect("pull")
	_ = broker.listener.Close()
	_ = p.stream.Close()
	if end := await(t, ended); end.Reason != "error" || end.Why != "the broker does not come back" {
		t.Error(end)
	}
}

func TestAFleetThatIsGoneIsLeftAtOnce(t *testing.T) {
	broker := newFakeBroker(t)
	ended, _ := start(t, broker, func(o *Options) {
		o.Patience, o.FleetGone = time.Hour, func() bool { return true }
	})
	p := broker.accept()
	_ = broker.listener.Close()
	_ = p.stream.Close()
	await(t, ended)
}

func TestATicketThatIsNotKnownYetIsTriedAgain(t *testing.T) {
	broker := newFakeBroker(t)
	start(t, broker, func(o *Options) { o.Patience = time.Minute })
	for i := 0; i < 2; i++ {
		p := broker.acceptSilently()
		p.send(fields{"t": "error", "re": p.hello["id"], "code": "protocol", "detail": "nobody knows this ticket"})
		_ = p.stream.Close()
	}
	broker.accept().expect("pull")
}

func TestAMessageThatMakesNoSenseEndsTheConnectionOnly(t *testing.T) {
	broker := newFakeBroker(t)
	start(t, broker, func(o *Options) { o.Patience = time.Minute })
	for _, nonsense := range []fields{
		{"t": "dance"}, {"t": "turn", "task": fields{"id": "t"}, "fence": 1, "lease_ms": 1, "deadline_left_ms": 1},
		{"t": "cancel"},
	} {
		p := broker.accept()
		p.expect("pull")
		p.send(nonsense)
		if _, err := p.read(); err == nil {
			t.Errorf("%v: the connection goes on", nonsense)
		}
	}
	p := broker.accept()
	p.turn("t_1", 1, "echo", fields{"value": 1}, nil)
	p.expect("commit")
}

func TestAnIdleInstanceLeavesOnlyWhenItMay(t *testing.T) {
	broker := newFakeBroker(t)
	ended, _ := start(t, broker, func(o *Options) { o.Keep = 60 * time.Millisecond })
	p := broker.accept()
	p.expect("pull")
	p.send(fields{"t": "stay", "re": p.expect("hibernate")["id"]})
	p.expect("pull")
	p.bye()
	if end := await(t, ended); end.Reason != "ok" {
		t.Error(end)
	}
}

func TestDrainFinishesTheTurnAndAsksForNoOther(t *testing.T) {
	broker := newFakeBroker(t)
	ended, _ := start(t, broker, nil)
	p := broker.accept()
	p.turn("t_1", 1, "slow", fields{"ms": 200}, nil)
	p.expect("heartbeat")
	p.send(fields{"t": "drain"})
	commit := p.expect("commit")
	if commit["pull"] == true {
		t.Error("a draining instance asks for another turn")
	}
	p.committed(commit, "succeeded")
	p.bye()
	await(t, ended)
}

func TestARestInATurnIsAnsweredAfterIt(t *testing.T) {
	broker := newFakeBroker(t)
	ended, _ := start(t, broker, nil)
	p := broker.accept()
	p.turn("t_1", 1, "slow", fields{"ms": 150}, nil)
	p.expect("heartbeat")
	p.send(fields{"t": "rest"})
	p.committed(p.expect("commit"), "succeeded")
	p.bye()
	await(t, ended)
}

func TestAnOrderToEndStoresNothing(t *testing.T) {
	broker := newFakeBroker(t)
	ended, cancel := start(t, broker, nil)
	p := broker.accept()
	p.turn("t_1", 1, "slow", fields{"ms": 60_000}, nil)
	p.expect("heartbeat")
	cancel()
	await(t, ended)
	for {
		message, err := p.read()
		if err != nil {
			return
		}
		if message["t"] == "commit" {
			t.Fatal("an ended turn is committed")
		}
	}
}

func TestACheckpointThatIsRefusedEndsTheTurn(t *testing.T) {
	broker := newFakeBroker(t)
	start(t, broker, nil)
	p := broker.accept()
	p.expect("pull")
	p.turn("t_1", 1, "steps", fields{"count": 3}, fields{"session": "s"})
	first := p.expect("commit")
	state, _ := json.Marshal(first["state"])
	if first["outcome"] != "checkpoint" || string(state) != `{"done":1}` || first["pull"] == true {
		t.Errorf("%v", first)
	}
	p.committed(first, "leased")
	second := p.expect("commit")
	if second["state_version"] != 1.0 {
		t.Errorf("%v", second)
	}
	p.send(fields{"t": "error", "re": second["id"], "code": "fenced", "detail": "gone"})
	p.expect("pull")
	p.turn("t_2", 2, "echo", fields{"value": 1}, nil)
	if commit := p.expect("commit"); commit["task"] != "t_2" {
		t.Errorf("%v", commit)
	}
}

func TestAFullDiskIsWaitedFor(t *testing.T) {
	broker := newFakeBroker(t)
	start(t, broker, nil)
	p := broker.accept()
	p.turn("t_1", 1, "echo", fields{"value": 1}, nil)
	first := p.expect("commit")
	p.send(fields{"t": "error", "re": first["id"], "code": "storage-full", "detail": "full"})
	again := p.expect("commit")
	if again["fence"] != first["fence"] || again["id"] == first["id"] {
		t.Errorf("%v", again)
	}
}

// deaf is an agent whose skill does not listen to its context; the function lets it return.
func deaf(t *testing.T) (*agent.Agent, func()) {
	t.Helper()
	release := make(chan struct{})
	patience := stopPatience
	stopPatience = 100 * time.Millisecond
	made := agent.New("conformance",
		agent.Skill("deaf", "Waits for the test alone.", func(*agent.Context, struct{}) (struct{}, error) {
			<-release
			return struct{}{}, nil
		}),
		agent.Skill("folder", "Gives its folder.", func(ctx *agent.Context, _ struct{}) (string, error) {
			return ctx.Scratch()
		}),
	)
	return made, func() {
		close(release)
		stopPatience = patience
		for until := time.Now().Add(longEnough); abandoned.Load() != 0; time.Sleep(time.Millisecond) {
			if time.Now().After(until) {
				t.Fatal("a skill that has returned still counts as one that runs on")
			}
		}
	}
}

func TestASkillThatDoesNotListenIsLeftAndTheInstanceGoesOn(t *testing.T) {
	broker := newFakeBroker(t)
	code, letGo := deaf(t)
	defer letGo()
	start(t, broker, func(options *Options) { options.Agent = code })
	p := broker.accept()
	p.expect("pull")
	p.turn("t_0", 1, "folder", fields{}, nil)
	first := p.expect("commit")
	p.committed(first, "succeeded")
	p.turn("t_1", 1, "deaf", fields{}, fields{"deadline_left_ms": 50})
	commit := p.expect("commit")
	failure, _ := commit["error"].(fields)
	if commit["outcome"] != "failed" || failure["code"] != "deadline" || commit["pull"] != true {
		t.Errorf("%v", commit)
	}
	p.committed(commit, "expired")
	p.turn("t_2", 1, "deaf", fields{}, nil)
	p.expect("heartbeat")
	p.send(fields{"t": "cancel", "task": "t_2", "fence": 1})
	p.expect("pull")
	if count := abandoned.Load(); count != 2 {
		t.Errorf("%d run on", count)
	}
	p.turn("t_3", 1, "folder", fields{}, nil)
	if second := p.expect("commit"); second["result"] == first["result"] {
		t.Errorf("the folder of the skill that runs on is used again: %v", second)
	}
}

func TestNotMoreThanSomeSkillsRunOn(t *testing.T) {
	broker := newFakeBroker(t)
	code, letGo := deaf(t)
	defer letGo()
	start(t, broker, func(options *Options) { options.Agent = code })
	p := broker.accept()
	for number := 1; number <= AbandonedMax; number++ {
		p.turn(fmt.Sprint("t_", number), number, "deaf", fields{}, fields{"deadline_left_ms": 1})
		p.committed(p.expect("commit"), "expired")
	}
	p.turn("t_9", 9, "deaf", fields{}, fields{"deadline_left_ms": 1})
	for beats := 0; beats < 12; { // lease_ms of the fake broker is short: more than the patience with a skill
		message, err := p.read()
		if err != nil {
			t.Fatal(err)
		}
		if message["t"] == "commit" {
			t.Fatal("one more is left to run on: nobody ends the worker")
		}
		if message["t"] == "heartbeat" {
			beats++
		}
	}
}
