// Package host is a worker of a fleet: one process that hosts many instances of Go agents.
//
// Why it exists: a Go program cannot be forked as a zygote is, and need not be: a goroutine is cheaper than a process. The
// worker takes its orders from sutazaid's socket, one JSON object a line (docs/reference/sutazaid-socket.md), outlives
// sutazaid, and must not outlive the fleet.
package host

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"sort"
	"sync"
	"syscall"
	"time"

	"sutazai/agent"
	"sutazai/instance"
)

const (
	registerID  = 1
	keepDefault = 30 * time.Second
	// ExitGone and ExitRefused are the exit codes: the fleet is gone, or sutazaid does not want this process.
	ExitGone    = 0
	ExitRefused = 1
)

// Options say where a worker lives.
type Options struct {
	// Name is what sutazaid calls it; Fleet the fleet's name.
	Name, Fleet string
	// Supervisor and Broker are paths of sockets.
	Supervisor, Broker string
	// Agents are what it can host, by name.
	Agents map[string]*agent.Agent
	Log    *agent.Log
	// Started is when the process began.
	Started time.Time
	// Orphan is how long sutazaid may be away together with the fleet's guard; 0 is the usual 30 s.
	Orphan time.Duration
}

type worker struct {
	Options
	line   *line
	mutex  sync.Mutex
	hosted map[string]*hosted
	going  bool
	done   sync.WaitGroup
}

type hosted struct {
	agent  string
	cancel context.CancelFunc
	leave  chan struct{} // closed when it is to go after its turn
	once   sync.Once
}

func (h *hosted) drain() { h.once.Do(func() { close(h.leave) }) }

// entry is how sutazaid is told of a hosted instance.
type entry struct {
	Ticket string `json:"ticket"`
	Agent  string `json:"agent"`
}

type order struct {
	Push     string          `json:"push"`
	Ticket   string          `json:"ticket"`
	Agent    string          `json:"agent"`
	Token    string          `json:"token"`
	Settings json.RawMessage `json:"settings"`
	KeepMS   *int64          `json:"keep_ms"`
	GraceMS  int64           `json:"grace_ms"`

	ID    *int64 `json:"id"`
	OK    *bool  `json:"ok"`
	Error any    `json:"error"`
}

// Run works until the fleet is gone or somebody asks to stop; it gives the exit code.
func Run(options Options) int {
	w := &worker{Options: options, hosted: map[string]*hosted{}}
	w.line = newLine(options.Supervisor, options.Orphan)
	applyLimits(w.Log)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	go func() {
		<-signals
		w.leave()
		os.Exit(0)
	}()
	return w.serve()
}

// leave lets all instances finish their turns, and waits for them.
func (w *worker) leave() {
	w.mutex.Lock()
	w.going = true
	for _, found := range w.hosted {
		found.drain()
	}
	w.mutex.Unlock()
	w.done.Wait()
}

// serve stands at sutazaid's socket and does what it says, over as many connections as it takes.
func (w *worker) serve() int {
	for w.line.connect() {
		w.register()
		for {
			data, err := w.line.receive()
			if err != nil {
				break
			}
			var said order
			if err = json.Unmarshal(data, &said); err != nil {
				w.Log.Error("sutazaid's message makes no sense", "error", err)
				break
			}
			if said.OK != nil && !*said.OK {
				w.Log.Warning("sutazaid refused", "error", fmt.Sprint(said.Error))
				if said.ID != nil && *said.ID == registerID {
					return ExitRefused // nobody would limit or watch this process
				}
			}
			w.do(said)
		}
		w.line.close()
	}
	w.Log.Warning("the fleet is gone; leaving")
	return ExitGone
}

func (w *worker) register() {
	w.line.send(map[string]any{"op": "hello", "process": w.Name})
	w.line.send(map[string]any{
		"op": "register", "id": registerID, "worker": w.Name, "pid": os.Getpid(),
		"pre_ms": time.Since(w.Started).Milliseconds(), "threads": threads(), "hosts": true,
	})
	w.line.send(map[string]any{"op": "hosting", "tickets": w.tickets()})
}

func (w *worker) tickets() []entry {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	entries := make([]entry, 0, len(w.hosted))
	for ticket, found := range w.hosted {
		entries = append(entries, entry{ticket, found.agent})
	}
	sort.Slice(entries, func(a, b int) bool { return entries[a].Ticket < entries[b].Ticket })
	return entries
}

func (w *worker) do(said order) {
	switch said.Push {
	case "host":
		if err := w.host(said); err != nil {
			w.line.send(map[string]any{"op": "fork-failed", "ticket": said.Ticket, "error": err.Error()})
		}
	case "end":
		w.mutex.Lock()
		found, there := w.hosted[said.Ticket]
		w.mutex.Unlock()
		switch {
		case there && said.GraceMS > 0:
			found.drain()
		case there:
			found.cancel()
		default:
			w.ended(said.Ticket, instance.End{Reason: "ok", Why: "it is not hosted here"})
		}
	}
}

func (w *worker) host(said order) error {
	code, known := w.Agents[said.Agent]
	if !known {
		return fmt.Errorf("this worker has no agent %q: build it anew with scripts/bootstrap base go", said.Agent)
	}
	ctx, cancel := context.WithCancel(context.Background())
	made := &hosted{agent: said.Agent, cancel: cancel, leave: make(chan struct{})}
	w.mutex.Lock()
	_, twice := w.hosted[said.Ticket]
	going := w.going
	if !twice && !going {
		w.hosted[said.Ticket] = made
		w.done.Add(1)
	}
	w.mutex.Unlock()
	if going && !twice {
		cancel()
		return fmt.Errorf("this worker is about to leave")
	}
	w.line.send(map[string]any{"op": "hosted", "ticket": said.Ticket, "pid": os.Getpid()})
	if twice { // asked again by a new sutazaid
		cancel()
		return nil
	}
	applyLimits(w.Log)
	go w.live(ctx, made, said, code)
	return nil
}

func (w *worker) live(ctx context.Context, made *hosted, said order, code *agent.Agent) {
	defer w.done.Done()
	defer made.cancel()
	keep := keepDefault
	if said.KeepMS != nil {
		keep = time.Duration(*said.KeepMS) * time.Millisecond
	}
	end := instance.Run(ctx, instance.Options{
		Agent: code, Broker: w.Broker, Keep: keep, Settings: said.Settings, Fleet: w.Fleet, Drain: made.leave,
		Identity:  instance.Identity{Agent: said.Agent, Ticket: said.Ticket, Token: said.Token},
		Log:       w.Log.With("agent", said.Agent, "instance", said.Ticket),
		FleetGone: w.line.guardIsDead,
	})
	w.mutex.Lock()
	delete(w.hosted, said.Ticket)
	w.mutex.Unlock()
	w.ended(said.Ticket, end)
	applyLimits(w.Log)
}

// ended tells sutazaid; while that is away nobody needs to be told: the list of the hosted that follows says the same.
func (w *worker) ended(ticket string, end instance.End) {
	status := 0
	if end.Reason != "ok" {
		status = 1
	}
	w.line.send(map[string]any{"op": "ended", "ticket": ticket, "reason": end.Reason, "status": status, "why": end.Why})
}

// threads counts the kernel threads of this process; 0 when nobody can tell.
func threads() int {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0
	}
	return len(entries)
}
