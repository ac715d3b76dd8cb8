package log_aggregator_loki

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sutazai/agent"
)

const second = int64(time.Second)

// shop is a minute of two streams: a request a second, every tenth failing, and one line of a worker.
func shop() []pushedStream {
	web := pushedStream{Stream: map[string]string{"app": "shop", "job": "web"}}
	for i := int64(0); i < 60; i++ {
		status, level := 200, "info"
		if i%10 == 9 {
			status, level = 503, "error"
		}
		line := fmt.Sprintf(`level=%s msg="GET /cart/%d" status=%d took=%dms`, level, i, status, i*3)
		web.Values = append(web.Values, []any{fmt.Sprint(1000*second + i*second), line})
	}
	return []pushedStream{web, {
		Stream: map[string]string{"app": "shop", "job": "worker"},
		Values: [][]any{{fmt.Sprint(1030 * second), `{"level": "warn", "text": "slow", "queue": {"length": 7}, "list": [1]}`}},
	}}
}

func ask(t *testing.T, trial *agent.Trial, skill string, input any, session string, into any) {
	t.Helper()
	ended := run(trial, skill, input, session)
	if ended.Error != nil {
		t.Fatalf("%s %v: %+v", skill, input, ended.Error)
	}
	if err := json.Unmarshal(ended.Result, into); err != nil {
		t.Fatal(err)
	}
}

func run(trial *agent.Trial, skill string, input any, session string) agent.TrialResult {
	data, err := json.Marshal(input)
	if err != nil {
		panic(err)
	}
	return trial.Run(context.Background(), agent.TrialTask{Skill: skill, Input: data, Session: session})
}

func rangeOf(query string) map[string]any {
	return map[string]any{"query": query, "start": "1000", "end": "1060", "recorded": shop(), "limit": 1000}
}

func TestLinesAreSelectedFilteredAndParsed(t *testing.T) {
	trial := agent.NewTrial(Agent)
	for query, want := range map[string]int{
		`{app="shop"}`: 61, `{app="shop", job!="web"}`: 1, `{job=~"w.*"}`: 61, `{job=~"w"}`: 0, `{job!~"web"}`: 1,
		`{job="web"} |= "503"`: 6, `{job="web"} != "503"`: 54, `{job="web"} |~ "cart/\\d "`: 0, `{job="web"} |~ "cart/\\d\""`: 10,
		"{job=\"web\"} !~ `status=2..`":                          6,
		`{job="web"} | logfmt | status >= 500`:                   6,
		`{job="web"} | logfmt | level = "error" | took =~ "8.*"`: 1,
		`{job="worker"} | json | queue_length > 5`:               1,
		`{job="worker"} | json | level == "info"`:                0,
		`{job="web"} | json`:                                     60,
		`{missing="x"}`:                                          0, `{missing=""}`: 61,
	} {
		var found response
		ask(t, trial, "query_range", rangeOf(query), "", &found)
		count := 0
		for _, stream := range found.Data.Result {
			count += len(stream.Values)
		}
		if count != want || found.Data.Stats.Matched != want || found.Data.Type != "streams" {
			t.Errorf("%s: %d lines, not %d", query, count, want)
		}
	}
}

func TestDirectionAndLimitDecideWhichLinesCome(t *testing.T) {
	trial := agent.NewTrial(Agent)
	for direction, want := range map[string]string{"backward": "cart/59", "forward": "cart/0"} {
		input := rangeOf(`{job="web"}`)
		input["direction"], input["limit"] = direction, 2
		var found response
		ask(t, trial, "query_range", input, "", &found)
		values := found.Data.Result[0].Values
		if len(values) != 2 || !strings.Contains(values[0][1].(string), want) {
			t.Errorf("%s: %v", direction, values)
		}
	}
}

func TestNumbersAreMadeOfLines(t *testing.T) {
	trial := agent.NewTrial(Agent)
	for query, want := range map[string]string{
		`count_over_time({job="web"} [30s])`:                                          "30",
		`rate({job="web"} [1m])`:                                                      "0.9833333333333333",
		`bytes_over_time({job="worker"} [1m])`:                                        "70",
		`sum(count_over_time({app="shop"} [1h]))`:                                     "60",
		`sum by (status) (count_over_time({job="web"} | logfmt | status="503" [1h]))`: "5",
		`count(count_over_time({job="web"} | logfmt [1h]))`:                           "59",
		`max(count_over_time({app="shop"} [1h]))`:                                     "59",
		`min(count_over_time({app="shop"} [1h])) by (app)`:                            "1",
		`avg without (job) (count_over_time({app="shop"} [1h]))`:                      "30",
		`topk(1, count_over_time({app="shop"} [1h]))`:                                 "59",
		`bottomk(1, count_over_time({app="shop"} [1h]))`:                              "1",
	} {
		var found response
		ask(t, trial, "query", map[string]any{"query": query, "time": "1058", "recorded": shop()}, "", &found)
		if len(found.Data.Result) != 1 || found.Data.Result[0].Value[1] != want {
			t.Errorf("%s: %v, not %s", query, found.Data.Result, want)
		}
	}
	var found response
	input := rangeOf(`sum(count_over_time({job="web"} [10s]))`)
	input["step"] = "20s"
	ask(t, trial, "query_range", input, "", &found)
	if got := fmt.Sprint(found.Data.Result[0].Values); got != "[[1000 1] [1020 10] [1040 10] [1060 9]]" {
		t.Errorf("a matrix: %s", got)
	}
}

func TestAQueryThatMakesNoSenseSaysWhereAndWhatToWrite(t *testing.T) {
	trial := agent.NewTrial(Agent)
	for query, want := range map[string]string{
		"shop": "there are count_over_time", "": "minlen", `{app}`: "=, !=, =~ or !~", `{app="x"`: "a comma or }", `{app=x}`: "in quotes",
		`{app="x"} | dance`: "no stage that is known", `{app="x"} |= 5`: "in quotes", `{app=~"("}`: "missing closing",
		`rate({app="x"})`: "a range like [5m]", `rate({app="x"} [soon])`: "no time span", `sum({app="x"})`: "needs numbers",
		`{app="x"} {b="y"}`: "nothing is expected", `topk(count_over_time({a="x"}[1m]))`: "topk takes a number",
		`{app="x"} | status > "5"`: "compares numbers", `sum by app (rate({a="b"}[1m]))`: "( is expected",
		strings.Repeat("sum(", 30) + `rate({a="b"}[1m])`: "brackets in each other",
		`{app="x"}` + strings.Repeat(` |= "x"`, 60):      "more than 50 stages",
		`count_over_time({app="x"} [400d])`:              "longer than a year",
	} {
		ended := run(trial, "query_range", rangeOf(query), "")
		if ended.Error == nil || ended.Error.Code != "invalid-input" || want != "minlen" && !strings.Contains(ended.Error.Message, want) {
			t.Errorf("%s: %+v", query, ended.Error)
		}
	}
	for name, change := range map[string]map[string]any{
		"start": {"start": "tomorrow"}, "before": {"start": "2000", "end": "1000"}, "points": {"step": "1ms"},
	} {
		input := rangeOf(`{app="shop"}`)
		for field, value := range change {
			input[field] = value
		}
		if ended := run(trial, "query_range", input, ""); ended.Error == nil || ended.Error.Code != "invalid-input" {
			t.Errorf("%s: %+v", name, ended)
		}
	}
	if ended := run(trial, "query", map[string]any{"query": `{app="shop"}`, "recorded": shop()}, ""); ended.Error == nil {
		t.Error("lines have no single point in time")
	}
}

func TestWhatIsPushedIsKeptOnceAndOnlyInItsSession(t *testing.T) {
	trial := agent.NewTrial(Agent)
	var got accepted
	ask(t, trial, "push", pushed{shop()}, "one", &got)
	if got != (accepted{Accepted: 61, Kept: 61}) {
		t.Errorf("%+v", got)
	}
	ask(t, trial, "push", pushed{shop()}, "one", &got)
	if got != (accepted{Duplicate: 61, Kept: 61}) {
		t.Errorf("again: %+v", got)
	}
	var found names
	ask(t, trial, "labels", map[string]any{"where": "pushed"}, "one", &found)
	if fmt.Sprint(found.Data) != "[app job]" {
		t.Errorf("%v", found)
	}
	ask(t, trial, "labels", map[string]any{"where": "pushed", "name": "job"}, "one", &found)
	if fmt.Sprint(found.Data) != "[web worker]" {
		t.Errorf("%v", found)
	}
	ask(t, trial, "labels", map[string]any{"where": "pushed"}, "two", &found)
	if len(found.Data) != 0 {
		t.Errorf("another tenant sees %v", found)
	}
	var sets streamSets
	ask(t, trial, "series", map[string]any{"where": "pushed", "match": `{job="web"}`}, "one", &sets)
	if len(sets.Data) != 1 || sets.Data[0]["job"] != "web" {
		t.Errorf("%v", sets)
	}
	ask(t, trial, "forget", none{}, "one", &struct{}{})
	ask(t, trial, "labels", map[string]any{"where": "pushed"}, "one", &found)
	if len(found.Data) != 0 {
		t.Errorf("forgotten: %v", found)
	}
}

func TestTheOldestLinesMakeRoom(t *testing.T) {
	trial := agent.NewTrial(Agent)
	total, kept := 0, 0
	for round := 0; round < 4; round++ {
		stream := pushedStream{Stream: map[string]string{"app": "noise"}}
		for i := 0; i < 4000; i++ {
			at := int64(round*4000+i) * second
			stream.Values = append(stream.Values, []any{fmt.Sprint(at), fmt.Sprintf("%x", sha256.Sum256([]byte(fmt.Sprint(at)))) + fmt.Sprintf("%x", sha256.Sum256([]byte(fmt.Sprint(-at))))})
		}
		var got accepted
		ask(t, trial, "push", pushed{[]pushedStream{stream}}, "s", &got)
		total += got.Accepted
		kept = got.Kept
		if round == 3 && got.Dropped == 0 {
			t.Errorf("nothing makes room: %+v", got)
		}
	}
	if kept >= total || kept < 1000 {
		t.Errorf("%d of %d kept", kept, total)
	}
	var found response
	ask(t, trial, "query", map[string]any{"query": `count_over_time({app="noise"}[1d])`, "time": "15999", "where": "pushed"}, "s", &found)
	if found.Data.Result[0].Value[1] != fmt.Sprint(kept) {
		t.Errorf("%v", found.Data.Result)
	}
}

func TestAPushThatIsWrongStoresNothing(t *testing.T) {
	trial := agent.NewTrial(Agent)
	good := []any{"1", "line"}
	for name, stream := range map[string]pushedStream{
		"no label":      {Stream: map[string]string{}, Values: [][]any{good}},
		"a wrong label": {Stream: map[string]string{"a-b": "x"}, Values: [][]any{good}},
		"no time":       {Stream: map[string]string{"a": "x"}, Values: [][]any{good, {1, "line"}}},
		"no line":       {Stream: map[string]string{"a": "x"}, Values: [][]any{good, {"1", 5}}},
		"half":          {Stream: map[string]string{"a": "x"}, Values: [][]any{good, {"1"}}},
		"too long":      {Stream: map[string]string{"a": "x"}, Values: [][]any{{"1", strings.Repeat("x", lineBytesMax+1)}}},
	} {
		ended := run(trial, "push", pushed{[]pushedStream{stream}}, "s")
		if ended.Error == nil || ended.Error.Code != "invalid-input" {
			t.Errorf("%s: %+v", name, ended)
		}
	}
	if ended := run(trial, "push", pushed{shop()}, ""); ended.Error == nil || !strings.Contains(ended.Error.Message, "session") {
		t.Errorf("without a session: %+v", ended)
	}
	var found names
	ask(t, trial, "labels", map[string]any{"where": "pushed"}, "s", &found)
	if len(found.Data) != 0 {
		t.Errorf("%v", found)
	}
}

func TestSearchGivesTheLinesAround(t *testing.T) {
	var found Matches
	ask(t, agent.NewTrial(Agent), "search", map[string]any{"text": "CART/30\"", "around": 1, "recorded": shop()}, "", &found)
	if found.Total != 1 || !strings.Contains(found.Matches[0].Before[0], "cart/29") || !strings.Contains(found.Matches[0].After[0], "cart/31") {
		t.Errorf("%+v", found)
	}
}

func TestPatternsAreWhatLinesHaveInCommon(t *testing.T) {
	var found Patterns
	ask(t, agent.NewTrial(Agent), "patterns", map[string]any{"recorded": shop(), "selector": `{job="web"}`}, "", &found)
	if found.Looked != 60 || found.Groups != 2 || found.Patterns[0].Count != 54 || found.Patterns[0].Share != 0.9 ||
		!strings.HasPrefix(found.Patterns[0].Pattern, `level=info msg="GET /cart/<_>"`) {
		t.Errorf("%+v", found)
	}
}

func TestPointsInTimeAreReadAsLokiReadsThem(t *testing.T) {
	for text, want := range map[string]int64{
		"1000": 1000, "1000.5": 1000, "1000000000000000000": 1_000_000_000, "1970-01-01T00:16:40Z": 1000, "-5": -5, "1e3": 1000,
	} {
		if at, err := moment(text, time.Time{}); err != nil || at.Unix() != want {
			t.Errorf("%s: %v %v", text, at, err)
		}
	}
	for _, text := range []string{"x", "1000x", "1e99", "NaN", "99999999999999999999999"} {
		if at, err := moment(text, time.Time{}); err == nil {
			t.Errorf("%s is %v", text, at)
		}
	}
}

// FuzzLogQL reads garbage as a query: it is refused or can be asked, and never breaks the worker.
func FuzzLogQL(f *testing.F) {
	for _, text := range []string{
		`sum by (a) (rate({a=~"x.*"} |= "b" | json | c >= 5 [5m]))`, `{a="b"} | logfmt | c="d"`, `topk(3, count_over_time({a="b"}[1h]))`,
	} {
		f.Add(text)
	}
	entries, _ := entriesOf(shop())
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := parseQuery(text)
		if err != nil {
			return
		}
		if parsed.metric != nil {
			_, _ = vector(parsed, entries, 1050*second)
			return
		}
		streams(parsed, entries, 10, false)
	})
}
