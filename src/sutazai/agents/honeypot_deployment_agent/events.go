package honeypot_deployment_agent

import (
	"net"
	"sort"
	"time"

	"sutazai/agent"
)

const (
	storedMax      = 1000
	storedBytesMax = 700 << 10
	contactCost    = 200 // bytes of a stored contact besides its texts
)

type batch struct {
	Contacts []Contact `json:"contacts,omitempty" maxlen:"500"`
	Forget   bool      `json:"forget,omitempty" doc:"drop what is stored"`
}

type stored struct {
	Contacts []Contact `json:"contacts"`
	Dropped  int       `json:"dropped" doc:"older ones that had to make room"`
}

type question struct {
	Last     int    `json:"last_s" default:"86400" min:"1" max:"31536000" doc:"seconds to look back"`
	Severity string `json:"severity" default:"info" enum:"info|warning|critical" doc:"the least severity"`
	Kind     string `json:"kind" default:"" enum:"|ssh|http|redis" doc:"only of such decoys"`
	Limit    int    `json:"limit" default:"100" min:"1" max:"1000" doc:"contacts to list"`
}

// Alert joins what one source did.
type Alert struct {
	Source   string   `json:"source" doc:"address without port"`
	Severity string   `json:"severity"`
	Count    int      `json:"count"`
	Kinds    []string `json:"kinds"`
	FirstMS  int64    `json:"first_wall_ms"`
	LastMS   int64    `json:"last_wall_ms"`
	What     string   `json:"what" doc:"the worst that it did"`
}

// Events is the answer of the skill events.
type Events struct {
	Total   int       `json:"total" doc:"contacts that fit"`
	Dropped int       `json:"dropped" doc:"older ones that had to make room"`
	Alerts  []Alert   `json:"alerts" doc:"by source, the worst first; sources that only looked are left out"`
	Events  []Contact `json:"events" doc:"the newest first"`
}

type nothing struct{}

func events(ctx *agent.Context, in question) (Events, error) {
	call, err := ctx.Call(name, "read", nothing{}, agent.Session(alertsSession))
	if err != nil {
		return Events{}, err
	}
	return Events{}, agent.Wait("tell", in, call)
}

func tell(_ *agent.Context, results []agent.Result, in question) (Events, error) {
	var found stored
	if err := results[0].Into(&found); err != nil {
		return Events{}, err
	}
	return summarise(found, in, time.Now().UnixMilli()), nil
}

func summarise(found stored, in question, nowMS int64) Events {
	out := Events{Dropped: found.Dropped, Alerts: []Alert{}, Events: []Contact{}}
	sources := map[string]*Alert{}
	for i := len(found.Contacts) - 1; i >= 0; i-- {
		contact := found.Contacts[i]
		if contact.AtMS < nowMS-int64(in.Last)*1000 || ranks[contact.Severity] < ranks[in.Severity] ||
			in.Kind != "" && contact.Kind != in.Kind {
			continue
		}
		if out.Total++; len(out.Events) < in.Limit {
			out.Events = append(out.Events, contact)
		}
		join(sources, contact)
	}
	for _, alert := range sources {
		if alert.Severity != "info" {
			sort.Strings(alert.Kinds)
			out.Alerts = append(out.Alerts, *alert)
		}
	}
	sort.Slice(out.Alerts, func(a, b int) bool {
		one, other := out.Alerts[a], out.Alerts[b]
		if ranks[one.Severity] != ranks[other.Severity] {
			return ranks[one.Severity] > ranks[other.Severity]
		}
		if one.Count != other.Count {
			return one.Count > other.Count
		}
		return one.Source < other.Source
	})
	return out
}

func join(sources map[string]*Alert, contact Contact) {
	source, _, err := net.SplitHostPort(contact.Remote)
	if err != nil {
		source = contact.Remote
	}
	alert := sources[source]
	if alert == nil {
		alert = &Alert{Source: source, Severity: "info", FirstMS: contact.AtMS, LastMS: contact.AtMS, What: contact.What}
		sources[source] = alert
	}
	alert.Count++
	if contact.AtMS < alert.FirstMS {
		alert.FirstMS = contact.AtMS
	}
	if contact.AtMS > alert.LastMS {
		alert.LastMS = contact.AtMS
	}
	if ranks[contact.Severity] > ranks[alert.Severity] {
		alert.Severity, alert.What = contact.Severity, contact.What
	}
	for _, kind := range alert.Kinds {
		if kind == contact.Kind {
			return
		}
	}
	alert.Kinds = append(alert.Kinds, contact.Kind)
}

// record adds contacts; the oldest make room when there are too many or they are too large together.
func record(ctx *agent.Context, in batch) (nothing, error) {
	var found stored
	if err := ctx.State(&found); err != nil {
		return nothing{}, err
	}
	if in.Forget {
		found = stored{}
	}
	found.Contacts = append(found.Contacts, in.Contacts...)
	sort.SliceStable(found.Contacts, func(a, b int) bool { return found.Contacts[a].AtMS < found.Contacts[b].AtMS })
	total := 0
	for _, contact := range found.Contacts {
		total += size(contact)
	}
	drop := 0
	for len(found.Contacts)-drop > storedMax || total > storedBytesMax {
		total -= size(found.Contacts[drop])
		drop++
	}
	found.Contacts, found.Dropped = found.Contacts[drop:], found.Dropped+drop
	return nothing{}, ctx.SetState(found)
}

func size(contact Contact) int {
	total := contactCost + len(contact.Remote) + 2*len(contact.What)
	for name, value := range contact.Details {
		total += len(name) + 2*len(value)
	}
	return total
}

func read(ctx *agent.Context, _ nothing) (stored, error) {
	var found stored
	return found, ctx.State(&found)
}

func forget(ctx *agent.Context, _ nothing) (nothing, error) {
	call, err := ctx.Call(name, "record", batch{Forget: true}, agent.Session(alertsSession))
	if err != nil {
		return nothing{}, err
	}
	return nothing{}, agent.Wait("forgotten", nothing{}, call)
}

func forgotten(_ *agent.Context, results []agent.Result, _ nothing) (nothing, error) {
	return nothing{}, results[0].Into(&struct{}{})
}
