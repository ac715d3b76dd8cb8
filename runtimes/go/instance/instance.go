// Package instance is an agent in memory: it connects to the broker, leases a turn, runs it, commits it, and goes when
// there is nothing to do.
//
// Why it exists: all that docs/reference/protocol.md asks of an instance stands here once, so that agent code is plain
// functions. An instance may be killed at every line: what it committed is stored, what it did not is done again by
// another one. Any number of instances live in one process, each in its own goroutines with its own connection.
package instance

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"sutazai/agent"
	"sutazai/wire"
)

const (
	// Patience is how long an instance without a turn tries to reach a broker that is away.
	Patience = time.Minute
	// KeepMin is the least keep time: an instance was woken for a task, the broker gets the time to hand it over.
	KeepMin       = 50 * time.Millisecond
	commitTimeout = 20 * time.Second
	leaveTimeout  = 2 * time.Second
	lastLook      = 100 * time.Millisecond
	commitGrace   = 2 * time.Second
	fullPause     = 500 * time.Millisecond
	progressGap   = 250 * time.Millisecond
	askPatience   = 30 * time.Second
	askTimeout    = 7 * time.Second
	misreadMax    = 3
)

// Options say who an instance is and where it lives.
type Options struct {
	Agent    *agent.Agent
	Identity Identity
	// Broker is the path of its socket.
	Broker   string
	Keep     time.Duration
	Settings json.RawMessage
	Fleet    string
	Log      *agent.Log
	// FleetGone tells whether the fleet is not there any more; nil: never.
	FleetGone func() bool
	// Drain, when closed, asks the instance to leave after its turn.
	Drain <-chan struct{}
	// Patience is for tests; 0 is the usual one.
	Patience time.Duration
}

// End says why an instance ended: Reason is "ok" or "error".
type End struct{ Reason, Why string }

type instance struct {
	Options
	link     *link
	draining bool
	resting  bool
	scratch  *scratch
}

// Run is an instance from its first connection to its end. When the context ends, the instance stops at once: its turn is
// not committed.
func Run(ctx context.Context, options Options) (end End) {
	defer func() {
		if caught := recover(); caught != nil {
			end = End{"error", fmt.Sprintf("panic: %v", caught)}
			options.Log.Error("an instance failed", "error", end.Why, "stack", string(debug.Stack()))
		}
	}()
	if options.Patience == 0 {
		options.Patience = Patience
	}
	i := &instance{Options: options, link: newLink(options.Broker, options.Identity, options.Patience), scratch: &scratch{}}
	if i.Drain == nil {
		i.Drain = make(chan struct{})
	}
	if i.FleetGone != nil {
		i.link.gone = i.FleetGone
	}
	noted := newOnce()
	i.link.note = func(text string, err error) {
		if noted.isNew(text + err.Error()) {
			i.Log.Warning(text, "error", err)
		}
	}
	ctx, stop := context.WithCancel(ctx)
	kept := make(chan struct{})
	go func() { defer close(kept); i.link.keep(ctx) }()
	defer func() { stop(); <-kept; i.scratch.remove() }()
	return i.live(ctx)
}

// live waits for turns and runs them.
func (i *instance) live(ctx context.Context) End {
	keep := time.NewTimer(i.keepTime())
	defer keep.Stop()
	for {
		for {
			found, there := i.link.next()
			if !there {
				break
			}
			if done := i.hear(ctx, found); done {
				return End{Reason: "ok"}
			}
			restart(keep, i.keepTime())
		}
		if i.draining {
			i.leave(ctx)
			return End{Reason: "ok"}
		}
		if i.link.isOver() && ctx.Err() == nil {
			i.Log.Warning("the broker does not come back; leaving")
			return End{"error", "the broker does not come back"}
		}
		select {
		case <-ctx.Done():
			return End{"ok", "ended on request"}
		case <-i.Drain:
			i.draining = true
		case <-i.link.wake:
		case <-keep.C:
			if i.mayLeave(ctx, commitTimeout) {
				return End{Reason: "ok"}
			}
			i.pull()
			restart(keep, i.keepTime())
		}
	}
}

func (i *instance) keepTime() time.Duration {
	if i.Keep < KeepMin {
		return KeepMin
	}
	return i.Keep
}

func restart(timer *time.Timer, after time.Duration) {
	if !timer.Stop() {
		select {
		case <-timer.C:
		default:
		}
	}
	timer.Reset(after)
}

// hear takes an event while no turn runs; true when the instance may go.
func (i *instance) hear(ctx context.Context, found event) bool {
	if found.message == nil { // a new connection: the credit of the old one is gone with it
		i.pull()
		return false
	}
	switch found.message.Type {
	case "turn":
		i.turn(ctx, *found.message)
		if i.resting && !i.draining {
			i.resting = false
			return i.rest(ctx)
		}
	case "rest":
		return i.rest(ctx)
	case "cancel":
		i.pull()
	case "drain":
		i.draining = true
	}
	return false
}

func (i *instance) rest(ctx context.Context) bool {
	if i.mayLeave(ctx, commitTimeout) {
		return true
	}
	i.pull() // there is work: the credit may have been lost with a stopped turn
	return false
}

func (i *instance) pull() {
	if !i.draining {
		i.link.send(&wire.Plain{Head: wire.Head{Type: "pull"}})
	}
}

// mayLeave asks the broker whether the instance may go. A broker that is away is not asked: there is nothing to hand back.
func (i *instance) mayLeave(ctx context.Context, patience time.Duration) bool {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	reply, err := i.link.request(ctx, &wire.Plain{Head: wire.Head{Type: "hibernate"}}, patience)
	if err != nil {
		_, refused := err.(*wire.Error)
		return i.draining && (refused || err == ErrAway)
	}
	return reply.Type == "bye"
}

// leave goes on request; a turn that the broker had handed over meanwhile is done first.
func (i *instance) leave(ctx context.Context) {
	for !i.mayLeave(ctx, leaveTimeout) {
		timer := time.NewTimer(lastLook)
		select {
		case <-i.link.wake:
			timer.Stop()
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
		for found, there := i.link.next(); there; found, there = i.link.next() {
			if found.message != nil && found.message.Type == "turn" {
				i.turn(ctx, *found.message)
			}
		}
	}
}

// once remembers texts, so that the same trouble is told once.
type once struct {
	mutex sync.Mutex
	seen  map[string]bool
}

func newOnce() *once { return &once{seen: map[string]bool{}} }

func (o *once) isNew(text string) bool {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if o.seen[text] || len(o.seen) > 100 {
		return false
	}
	o.seen[text] = true
	return true
}

// scratches counts the folders of this process; their names end in its pid, so that those of dead ones can be told.
var scratches atomic.Int64

// scratch is a folder that is made when it is first asked for.
type scratch struct {
	mutex sync.Mutex
	path  string
}

func (s *scratch) folder() (string, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.path == "" {
		path := filepath.Join(os.TempDir(), fmt.Sprintf("go-%d.%d", scratches.Add(1), os.Getpid()))
		err := os.Mkdir(path, 0o700)
		if err != nil { // the fleet's folder cannot be reached by this user
			path, err = os.MkdirTemp("/tmp", "go-")
		}
		if err != nil {
			return "", err
		}
		s.path = path
	}
	return s.path, nil
}

func (s *scratch) remove() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.path != "" {
		_ = os.RemoveAll(s.path)
	}
}
