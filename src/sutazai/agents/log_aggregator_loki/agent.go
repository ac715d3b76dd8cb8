// Package log_aggregator_loki is log-aggregator-loki: Loki's push and query, over what is pushed and the fleet's own logs.
//
// Why it exists: tools and people know Loki's streams, labels and LogQL. The skills take and give the bodies of Loki's HTTP
// API. What is pushed is the state of the task's session (Loki's tenant), compressed and bounded: the oldest lines make room.
// The fleet's own logs are read from its control API and never copied.
package log_aggregator_loki

import (
	"fmt"
	"strings"
	"time"

	"sutazai/agent"
)

const (
	name        = "log-aggregator-loki"
	whereAll    = "all"
	wherePushed = "pushed"
	whereFleet  = "fleet"
)

// Agent is the agent.
var Agent = agent.New(name,
	agent.Skill("push", "Stores log lines; the input is the body of Loki's push API. Needs a session.", push),
	agent.Skill("query_range", "Answers a LogQL query over a range of time, as Loki's API does.", queryRange),
	agent.Skill("query", "Answers a LogQL query at a point in time, as Loki's API does.", queryInstant),
	agent.Skill("labels", "Lists the names of labels, or the values of one.", labels),
	agent.Skill("series", "Lists the streams that a selector matches.", series),
	agent.Skill("search", "Finds lines with a text, the newest first, with its context.", search),
	agent.Skill("patterns", "Groups lines by what they have in common and counts the groups.", patterns),
	agent.Skill("forget", "Forgets what was pushed in this session.", forget),
)

type pushed struct {
	Streams []pushedStream `json:"streams" minlen:"1" maxlen:"1000" doc:"as in Loki's push API"`
}

type pushedStream struct {
	Stream map[string]string `json:"stream" maxlen:"30" doc:"the labels"`
	Values [][]any           `json:"values" doc:"[[nanoseconds since 1970 as text, line], …]"`
}

type accepted struct {
	Accepted  int `json:"accepted"`
	Duplicate int `json:"duplicate" doc:"lines that were there with the same time and labels"`
	Dropped   int `json:"dropped" doc:"older lines that had to make room"`
	Kept      int `json:"kept" doc:"lines that are stored in this session now"`
}

// about says which lines a question is about. It is written out in each input, because a skill's input has no nested part.
type about struct {
	where    string
	recorded []pushedStream
}

type rangeQuery struct {
	Query     string         `json:"query" minlen:"1" maxlen:"5000" doc:"LogQL"`
	Start     string         `json:"start" default:"" doc:"RFC 3339, or seconds or nanoseconds since 1970; an hour before the end when empty"`
	End       string         `json:"end" default:"" doc:"as start; now when empty"`
	Step      string         `json:"step" default:"" doc:"of a metric query, like 60s; a hundredth of the range when empty"`
	Limit     int            `json:"limit" default:"100" min:"1" max:"5000" doc:"lines"`
	Direction string         `json:"direction" default:"backward" enum:"backward|forward"`
	Where     string         `json:"where" default:"all" enum:"all|pushed|fleet" doc:"lines that were pushed, the fleet's own, or both"`
	Recorded  []pushedStream `json:"recorded,omitempty" doc:"answer over these lines and no others"`
}

type instantQuery struct {
	Query    string         `json:"query" minlen:"1" maxlen:"5000" doc:"LogQL"`
	Time     string         `json:"time" default:"" doc:"RFC 3339, or seconds or nanoseconds since 1970; now when empty"`
	Limit    int            `json:"limit" default:"100" min:"1" max:"5000" doc:"lines"`
	Where    string         `json:"where" default:"all" enum:"all|pushed|fleet"`
	Recorded []pushedStream `json:"recorded,omitempty"`
}

type labelQuery struct {
	Name     string         `json:"name" default:"" maxlen:"200" doc:"give the values of this label"`
	Where    string         `json:"where" default:"all" enum:"all|pushed|fleet"`
	Recorded []pushedStream `json:"recorded,omitempty"`
}

type seriesQuery struct {
	Match    string         `json:"match" default:"" maxlen:"5000" doc:"selector, like {app=\"shop\"}; empty matches all"`
	Where    string         `json:"where" default:"all" enum:"all|pushed|fleet"`
	Recorded []pushedStream `json:"recorded,omitempty"`
}

type textQuery struct {
	Text     string         `json:"text" minlen:"1" maxlen:"1000" doc:"part of a line; case does not matter"`
	Selector string         `json:"selector" default:"" maxlen:"5000" doc:"only these streams"`
	Last     int            `json:"last_s" default:"3600" min:"1" max:"31536000" doc:"seconds to look back; all that is recorded, when it is"`
	Around   int            `json:"around" default:"0" min:"0" max:"20" doc:"lines of the same stream before and after"`
	Limit    int            `json:"limit" default:"50" min:"1" max:"1000"`
	Where    string         `json:"where" default:"all" enum:"all|pushed|fleet"`
	Recorded []pushedStream `json:"recorded,omitempty"`
}

type patternQuery struct {
	Selector string         `json:"selector" default:"" maxlen:"5000" doc:"only these streams"`
	Last     int            `json:"last_s" default:"3600" min:"1" max:"31536000" doc:"seconds to look back; all that is recorded, when it is"`
	Limit    int            `json:"limit" default:"20" min:"1" max:"200" doc:"groups, the most frequent first"`
	Where    string         `json:"where" default:"all" enum:"all|pushed|fleet"`
	Recorded []pushedStream `json:"recorded,omitempty"`
}

type names struct {
	Status string   `json:"status"`
	Data   []string `json:"data"`
}

type streamSets struct {
	Status string              `json:"status"`
	Data   []map[string]string `json:"data"`
}

type none struct{}

func push(ctx *agent.Context, in pushed) (accepted, error) {
	entries, err := entriesOf(in.Streams)
	if err != nil {
		return accepted{}, err
	}
	box, err := open(ctx)
	if err != nil {
		return accepted{}, err
	}
	out := accepted{Accepted: len(entries)}
	out.Duplicate = box.add(entries)
	out.Accepted -= out.Duplicate
	out.Dropped, err = box.save(ctx)
	out.Kept = box.lines()
	return out, err
}

func forget(ctx *agent.Context, _ none) (none, error) {
	if _, err := open(ctx); err != nil {
		return none{}, err
	}
	return none{}, ctx.SetState(none{})
}

func queryRange(ctx *agent.Context, in rangeQuery) (response, error) {
	parsed, err := parseQuery(in.Query)
	if err != nil {
		return response{}, err
	}
	end, err := moment(in.End, time.Now())
	if err != nil {
		return response{}, err
	}
	start, err := moment(in.Start, end.Add(-time.Hour))
	if err != nil {
		return response{}, err
	}
	if !start.Before(end) {
		return response{}, agent.InvalidInput("start %s is not before end %s", in.Start, in.End)
	}
	step := end.Sub(start) / 100
	if in.Step != "" {
		if step, err = duration(in.Step); err != nil {
			return response{}, err
		}
	}
	if step < time.Millisecond {
		step = time.Millisecond
	}
	if points := end.Sub(start) / step; points > pointsMax {
		return response{}, agent.InvalidInput("a step of %s gives %d points; the most is %d", step, points, pointsMax)
	}
	entries, err := gather(ctx, about{in.Where, in.Recorded}, start.Add(-parsed.window()), end)
	if err != nil {
		return response{}, err
	}
	if parsed.metric != nil {
		return matrix(parsed, entries, start.UnixNano(), end.UnixNano(), int64(step))
	}
	return streams(parsed, between(entries, start.UnixNano(), end.UnixNano()), in.Limit, in.Direction == "forward"), nil
}

func queryInstant(ctx *agent.Context, in instantQuery) (response, error) {
	parsed, err := parseQuery(in.Query)
	if err != nil {
		return response{}, err
	}
	at, err := moment(in.Time, time.Now())
	if err != nil {
		return response{}, err
	}
	if parsed.metric == nil {
		return response{}, agent.InvalidInput("a query of lines has no single point in time: use query_range, or count_over_time(%s [5m])", in.Query)
	}
	entries, err := gather(ctx, about{in.Where, in.Recorded}, at.Add(-parsed.window()), at)
	if err != nil {
		return response{}, err
	}
	return vector(parsed, entries, at.UnixNano())
}

func labels(ctx *agent.Context, in labelQuery) (names, error) {
	entries, err := gather(ctx, about{in.Where, in.Recorded}, time.Time{}, time.Time{})
	if err != nil {
		return names{}, err
	}
	found := map[string]bool{}
	for _, one := range entries {
		for label, value := range one.labels {
			if in.Name == "" {
				found[label] = true
			} else if label == in.Name {
				found[value] = true
			}
		}
	}
	return names{"success", sorted(found)}, nil
}

func series(ctx *agent.Context, in seriesQuery) (streamSets, error) {
	matches, err := parseSelector(in.Match)
	if err != nil {
		return streamSets{}, err
	}
	entries, err := gather(ctx, about{in.Where, in.Recorded}, time.Time{}, time.Time{})
	if err != nil {
		return streamSets{}, err
	}
	found, sets := map[string]bool{}, map[string]map[string]string{}
	for _, one := range entries {
		if matches.match(one.labels) {
			found[key(one.labels)], sets[key(one.labels)] = true, one.labels
		}
	}
	out := streamSets{Status: "success", Data: []map[string]string{}}
	for _, one := range sorted(found) {
		out.Data = append(out.Data, sets[one])
	}
	return out, nil
}

// moment reads a point in time as Loki's API takes it.
func moment(text string, otherwise time.Time) (time.Time, error) {
	if text == "" {
		return otherwise, nil
	}
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return at, nil
	}
	if !strings.ContainsAny(text, ".eE") {
		var whole int64
		if _, err := fmt.Sscanf(text, "%d", &whole); err == nil && fmt.Sprint(whole) == text {
			if len(strings.TrimPrefix(text, "-")) <= 10 {
				return time.Unix(whole, 0), nil
			}
			return time.Unix(0, whole), nil
		}
	} else if seconds, err := parseFloat(text); err == nil && seconds > -1e10 && seconds < 1e10 {
		return time.Unix(0, int64(seconds*1e9)), nil
	}
	return time.Time{}, agent.InvalidInput("%q is no time: write 2026-01-31T12:00:00Z, or seconds or nanoseconds since 1970", text)
}
