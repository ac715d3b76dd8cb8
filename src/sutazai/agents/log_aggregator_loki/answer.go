package log_aggregator_loki

import (
	"math"
	"sort"
	"strconv"

	"sutazai/agent"
)

const (
	pointsMax = 11_000 // as Loki's
	seriesMax = 500    // as Loki's
)

// response is the body of Loki's query API.
type response struct {
	Status string `json:"status"`
	Data   data   `json:"data"`
}

type data struct {
	Type   string   `json:"resultType" doc:"streams, matrix or vector"`
	Result []result `json:"result"`
	Stats  stats    `json:"stats"`
}

// result is one stream ("stream" and "values"), or one series ("metric" and "values" or "value").
type result struct {
	Stream map[string]string `json:"stream,omitempty"`
	Metric map[string]string `json:"metric,omitempty"`
	Values [][]any           `json:"values,omitempty" doc:"[nanoseconds as text, line], or [seconds, number as text]"`
	Value  []any             `json:"value,omitempty"`
}

type stats struct {
	Lines   int `json:"lines" doc:"lines that were looked at"`
	Matched int `json:"matched" doc:"lines that matched"`
}

// selected runs the stages over the lines of the streams that match.
func selected(q query, entries []entry) []entry {
	var out []entry
	for _, one := range entries {
		if !q.streams.match(one.labels) {
			continue
		}
		labels, keep := one.labels, true
		for _, step := range q.stages {
			if labels, keep = step(labels, one.line); !keep {
				break
			}
		}
		if keep {
			out = append(out, entry{one.at, labels, one.line})
		}
	}
	return out
}

func streams(q query, entries []entry, limit int, forward bool) response {
	found := selected(q, entries)
	matched := len(found)
	if !forward {
		for i, j := 0, len(found)-1; i < j; i, j = i+1, j-1 {
			found[i], found[j] = found[j], found[i]
		}
		sort.SliceStable(found, func(a, b int) bool { return found[a].at > found[b].at })
	}
	if len(found) > limit {
		found = found[:limit]
	}
	byStream, order := map[string]*result{}, []string{}
	for _, one := range found {
		name := key(one.labels)
		if byStream[name] == nil {
			byStream[name] = &result{Stream: one.labels}
			order = append(order, name)
		}
		byStream[name].Values = append(byStream[name].Values, []any{strconv.FormatInt(one.at, 10), one.line})
	}
	sort.Strings(order)
	out := response{"success", data{Type: "streams", Result: []result{}, Stats: stats{len(entries), matched}}}
	for _, name := range order {
		out.Data.Result = append(out.Data.Result, *byStream[name])
	}
	return out
}

// sample is one value of one series at one point.
type sample struct {
	labels map[string]string
	value  float64
}

// grouped puts lines of equal labels together; lines stay ordered by time.
func grouped(entries []entry) map[string][]entry {
	out := map[string][]entry{}
	for _, one := range entries {
		out[key(one.labels)] = append(out[key(one.labels)], one)
	}
	return out
}

// at computes the query's samples at a point: over the lines after point-window up to it, as Loki does.
func at(m *metric, lines map[string][]entry, point int64) map[string]sample {
	out := map[string]sample{}
	for name, entries := range lines {
		inside := between(entries, point-int64(m.window)+1, point+1)
		if len(inside) == 0 {
			continue
		}
		value := float64(len(inside))
		if m.function == "bytes_over_time" || m.function == "bytes_rate" {
			value = 0
			for _, one := range inside {
				value += float64(len(one.line))
			}
		}
		if m.function == "rate" || m.function == "bytes_rate" {
			value /= m.window.Seconds()
		}
		out[name] = sample{entries[0].labels, value}
	}
	for _, group := range m.groups {
		out = group.apply(out)
	}
	return out
}

func (g aggregation) apply(samples map[string]sample) map[string]sample {
	if g.count > 0 {
		return g.best(samples)
	}
	values, labels := map[string][]float64{}, map[string]map[string]string{}
	for _, name := range namesOf(samples) {
		kept := g.labels(samples[name].labels)
		values[key(kept)] = append(values[key(kept)], samples[name].value)
		labels[key(kept)] = kept
	}
	out := map[string]sample{}
	for name, found := range values {
		out[name] = sample{labels[name], combine(g.function, found)}
	}
	return out
}

func namesOf(samples map[string]sample) []string {
	set := map[string]bool{}
	for name := range samples {
		set[name] = true
	}
	return sorted(set)
}

func (g aggregation) labels(from map[string]string) map[string]string {
	out := map[string]string{}
	for label, value := range from {
		listed := false
		for _, one := range g.by {
			listed = listed || one == label
		}
		if g.grouped && listed != g.without {
			out[label] = value
		}
	}
	return out
}

func combine(function string, values []float64) float64 {
	out := values[0]
	for _, value := range values[1:] {
		switch function {
		case "min":
			out = math.Min(out, value)
		case "max":
			out = math.Max(out, value)
		default:
			out += value
		}
	}
	switch function {
	case "avg":
		out /= float64(len(values))
	case "count":
		out = float64(len(values))
	}
	return out
}

// best keeps the largest or smallest samples of each group.
func (g aggregation) best(samples map[string]sample) map[string]sample {
	groups := map[string][]string{}
	for _, name := range namesOf(samples) {
		group := key(g.labels(samples[name].labels))
		groups[group] = append(groups[group], name)
	}
	out := map[string]sample{}
	for _, found := range groups {
		sort.SliceStable(found, func(a, b int) bool {
			if g.function == "topk" {
				return samples[found[a]].value > samples[found[b]].value
			}
			return samples[found[a]].value < samples[found[b]].value
		})
		for i, name := range found {
			if i < g.count {
				out[name] = samples[name]
			}
		}
	}
	return out
}

func text(value float64) string { return strconv.FormatFloat(value, 'f', -1, 64) }

func vector(q query, entries []entry, point int64) (response, error) {
	found := selected(q, entries)
	samples := at(q.metric, grouped(found), point)
	out := response{"success", data{Type: "vector", Result: []result{}, Stats: stats{len(entries), len(found)}}}
	if len(samples) > seriesMax {
		return out, tooMany(len(samples))
	}
	for _, name := range namesOf(samples) {
		out.Data.Result = append(out.Data.Result, result{
			Metric: samples[name].labels, Value: []any{float64(point) / 1e9, text(samples[name].value)},
		})
	}
	return out, nil
}

func matrix(q query, entries []entry, start, end, step int64) (response, error) {
	found := selected(q, entries)
	lines := grouped(found)
	rows, labels := map[string][][]any{}, map[string]map[string]string{}
	for point := start; point <= end; point += step {
		for name, one := range at(q.metric, lines, point) {
			rows[name] = append(rows[name], []any{float64(point) / 1e9, text(one.value)})
			labels[name] = one.labels
		}
		if len(rows) > seriesMax {
			return response{}, tooMany(len(rows))
		}
	}
	out := response{"success", data{Type: "matrix", Result: []result{}, Stats: stats{len(entries), len(found)}}}
	set := map[string]bool{}
	for name := range rows {
		set[name] = true
	}
	for _, name := range sorted(set) {
		out.Data.Result = append(out.Data.Result, result{Metric: labels[name], Values: rows[name]})
	}
	return out, nil
}

func tooMany(count int) error {
	return agent.InvalidInput("the query gives more than %d series (%d): sum them by fewer labels", seriesMax, count)
}
