// Package honeypot_deployment_agent is honeypot-deployment-agent: decoys on reserved ports; what touches them is an alert.
//
// Why it exists: nobody has a reason to connect to a port that no service of the fleet has. A decoy that speaks just enough
// SSH, HTTP or Redis learns who comes and what they try, and never lets them in: it runs nothing that it is sent.
//
// deploy is one long turn: the decoy lives as long as it, so it dies with its task, its deadline or its worker, and a worker
// that is killed starts it again on the same port until its time is over. With each contact goes an alert into the session
// "alerts", stored by the turn's next checkpoint; without a session there are no checkpoints, and all come with the result.
package honeypot_deployment_agent

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"time"

	"sutazai/agent"
)

const (
	name          = "honeypot-deployment-agent"
	ownPort       = 10405
	alertsSession = "alerts"
	firstReserved = 10600
	lastReserved  = 10999
	contactsMax   = 500 // of one deployment; then it has seen enough
	saveEvery     = 2 * time.Second
	endMargin     = 2 * time.Second // before the deadline, to commit
)

type settings struct {
	FirstPort int `json:"first_port"`
	LastPort  int `json:"last_port"`
}

type order struct {
	Kind   string `json:"kind" enum:"ssh|http|redis" doc:"what the decoy looks like"`
	Port   int    `json:"port" default:"0" min:"0" max:"65535" doc:"one of the reserved ports; 0 takes the first free one"`
	Listen int    `json:"listen_s" default:"60" min:"1" max:"86400" doc:"seconds until it is taken down"`
	Idle   int    `json:"idle_s" default:"0" min:"0" max:"86400" doc:"seconds without a contact until it is taken down; 0: never"`
	Most   int    `json:"contacts" default:"500" min:"1" max:"500" doc:"contacts after which it is taken down"`
}

// Contact is what one connection did.
type Contact struct {
	AtMS     int64             `json:"at_wall_ms" doc:"when it came"`
	Kind     string            `json:"kind"`
	Port     int               `json:"port"`
	Remote   string            `json:"remote" doc:"address and port of the other side"`
	Severity string            `json:"severity" doc:"info: it looked; warning: it tried to log in; critical: it tried to take over"`
	What     string            `json:"what" doc:"what it did, in one sentence"`
	Details  map[string]string `json:"details" doc:"what it said of itself"`
	Bytes    int               `json:"bytes" doc:"bytes that it sent, as far as they were read"`
}

// Report is how a deployment ended.
type Report struct {
	Kind     string    `json:"kind"`
	Port     int       `json:"port"`
	SinceMS  int64     `json:"since_wall_ms"`
	UntilMS  int64     `json:"until_wall_ms"`
	Ended    string    `json:"ended" doc:"time, idle, contacts or deadline"`
	Count    int       `json:"count" doc:"contacts, those of an earlier life too"`
	Alerts   int       `json:"alerts" doc:"contacts of severity warning and critical"`
	Contacts []Contact `json:"contacts" doc:"the newest hundred"`
}

// Agent is the agent.
var Agent = agent.New(name,
	agent.Skill("deploy", "Puts a decoy on a reserved port for some time and reports who touched it; with a session it survives a kill.", deploy),
	agent.Skill("judge", "Says what a decoy makes of recorded bytes of a visitor.", judge),
	agent.Skill("events", "Lists what touched the decoys, the newest first, with alerts by source.", events),
	agent.Step("tell", tell),
	agent.Skill("record", "Stores contacts; for this agent itself, in its session.", record),
	agent.Skill("read", "Reads stored contacts; for this agent itself, in its session.", read),
	agent.Skill("forget", "Forgets all stored contacts.", forget),
	agent.Step("forgotten", forgotten),
)

// portsOf gives the ports that a decoy may take, with the fleet's offset.
func portsOf(ctx *agent.Context) (first, last int, err error) {
	said := settings{}
	if err = ctx.Settings(&said); err != nil {
		return 0, 0, err
	}
	offset := offsetOf(ctx)
	first, last = firstReserved+offset, lastReserved+offset
	if said.FirstPort > 0 {
		first = said.FirstPort
	}
	if said.LastPort > 0 {
		last = said.LastPort
	}
	if first < 1024 || last > 65535 || first > last {
		return 0, 0, agent.NonRetryable("the settings first_port %d and last_port %d are no range of ports from 1024 on", first, last)
	}
	return first, last, nil
}

// offsetOf finds what the fleet adds to its ports: this agent's own is known.
func offsetOf(ctx *agent.Context) int {
	var found struct {
		Agents []struct {
			Name string
			Port int
		}
	}
	if ctx.FleetGet("/v1/agents", url.Values{}, &found) != nil {
		return 0
	}
	for _, card := range found.Agents {
		if card.Name == name && card.Port > ownPort {
			return card.Port - ownPort
		}
	}
	return 0
}

// life is what a deployment's session remembers, so that it goes on after a kill.
type life struct {
	Task    string `json:"task"`
	Port    int    `json:"port"`
	SinceMS int64  `json:"since_wall_ms"`
	UntilMS int64  `json:"until_wall_ms"`
	Count   int    `json:"count"`
	Alerts  int    `json:"alerts"`
}

func deploy(ctx *agent.Context, in order) (Report, error) {
	first, last, err := portsOf(ctx)
	if err != nil {
		return Report{}, err
	}
	if in.Port != 0 && (in.Port < first || in.Port > last) {
		return Report{}, agent.InvalidInput("port %d is not reserved: a decoy takes %d to %d", in.Port, first, last)
	}
	now := time.Now().UnixMilli()
	mine := life{Task: ctx.Task.ID, Port: in.Port, SinceMS: now, UntilMS: now + int64(in.Listen)*1000}
	if ctx.Task.Session != "" {
		var before life
		if err = ctx.State(&before); err != nil {
			return Report{}, err
		}
		if before.Task == mine.Task { // this task was here before and was killed
			mine = before
		}
	}
	listener, port, err := listen(mine.Port, first, last)
	if err != nil {
		return Report{}, err
	}
	defer listener.Close()
	mine.Port = port
	stand := &stand{ctx: ctx, order: in, life: mine, decoy: decoys[in.Kind], listener: listener}
	return stand.run()
}

func (s *stand) report(ended string) Report {
	return Report{
		Kind: s.order.Kind, Port: s.life.Port, SinceMS: s.life.SinceMS, UntilMS: time.Now().UnixMilli(), Ended: ended,
		Count: s.life.Count, Alerts: s.life.Alerts, Contacts: s.newest,
	}
}

func taken(port int, err error) error {
	return agent.Unavailable("port %d cannot be taken: %v; name another one, or 0 for the first free one", port, err)
}

func summary(kind string, port int) string { return fmt.Sprintf("%s decoy on port %d", kind, port) }

type recording struct {
	Kind string `json:"kind" enum:"ssh|http|redis"`
	Sent []byte `json:"sent" maxlen:"87400" doc:"what the visitor sent, in base64"`
}

type judgement struct {
	Severity string            `json:"severity"`
	What     string            `json:"what"`
	Details  map[string]string `json:"details"`
	Bytes    int               `json:"bytes"`
}

// judge lets a decoy speak with a recording.
func judge(_ *agent.Context, in recording) (judgement, error) {
	here, there := net.Pipe()
	defer here.Close()
	go func() { _, _ = io.Copy(io.Discard, there) }()
	go func() { _, _ = there.Write(in.Sent); _ = there.Close() }()
	_ = here.SetDeadline(time.Now().Add(talkTime))
	visitor := newVisitor(here)
	guard(visitor, decoys[in.Kind])
	return judgement{visitor.severity, visitor.what, visitor.details, visitor.read}, nil
}
