package metrics_collector_prometheus

import (
	"math"
	"sort"
	"strconv"
	"strings"
	"time"

	"sutazai/agent"
)

// value is a number, or a vector of series.
type value struct {
	number   float64
	isNumber bool
	vector   []series
}

type scalar float64

func (s scalar) eval([]series) (value, error) { return value{number: float64(s), isNumber: true}, nil }

func (s selector) eval(all []series) (value, error) {
	out := value{}
	for _, one := range all {
		if s.match(one) {
			out.vector = append(out.vector, one)
		}
	}
	return out, nil
}

// grouping says which labels count.
type grouping struct {
	labels  []string
	without bool
	said    bool
}

func (g grouping) keep(from map[string]string) map[string]string {
	out := map[string]string{}
	for label, text := range from {
		listed := false
		for _, each := range g.labels {
			listed = listed || each == label
		}
		if listed != g.without {
			out[label] = text
		}
	}
	return out
}

func keyOf(labels map[string]string) string { return series{"", labels, 0}.String() }

type operation struct {
	operator    string
	left, right expression
	matching    grouping
}

func (o operation) eval(all []series) (value, error) {
	left, err := o.left.eval(all)
	if err != nil {
		return value{}, err
	}
	right, err := o.right.eval(all)
	if err != nil {
		return value{}, err
	}
	if left.isNumber && right.isNumber {
		result, keep := compute(o.operator, left.number, right.number)
		if compares(o.operator) {
			return value{}, agent.InvalidInput("two numbers are compared; a comparison needs a series on one side")
		}
		return value{number: result, isNumber: keep}, nil
	}
	out := value{}
	if !left.isNumber && !right.isNumber {
		return o.match(left.vector, right.vector)
	}
	vector := left.vector
	if left.isNumber {
		vector = right.vector
	}
	for _, one := range vector {
		a, b := one.value, right.number
		if left.isNumber {
			a, b = left.number, one.value
		}
		o.add(&out, one, a, b)
	}
	return out, nil
}

// match joins the series of both sides that have the same labels, each with one other.
func (o operation) match(left, right []series) (value, error) {
	others, out, used := map[string]series{}, value{}, map[string]bool{}
	for _, one := range right {
		name := keyOf(o.matching.keep(one.labels))
		if _, twice := others[name]; twice {
			return out, agent.InvalidInput("several series on the right of %s have the labels %s: sum them first", o.operator, name)
		}
		others[name] = one
	}
	for _, one := range left {
		kept := o.matching.keep(one.labels)
		other, there := others[keyOf(kept)]
		if !there {
			continue
		}
		if used[keyOf(kept)] {
			return out, agent.InvalidInput("several series on the left of %s have the labels %s: sum them first", o.operator, keyOf(kept))
		}
		used[keyOf(kept)] = true
		if o.matching.said && !compares(o.operator) {
			one.labels = kept
		}
		o.add(&out, one, one.value, other.value)
	}
	return out, nil
}

// add computes one result: a comparison keeps the series as it is, arithmetic takes its name away.
func (o operation) add(out *value, one series, a, b float64) {
	result, keep := compute(o.operator, a, b)
	if !keep {
		return
	}
	if !compares(o.operator) {
		one.name, one.value = "", result
	}
	out.vector = append(out.vector, one)
}

func compares(operator string) bool { return strings.ContainsAny(operator, "=<>") }

func compute(operator string, a, b float64) (float64, bool) {
	switch operator {
	case "+":
		return a + b, true
	case "-":
		return a - b, true
	case "*":
		return a * b, true
	case "/":
		return a / b, true
	case "%":
		return math.Mod(a, b), true
	case "^":
		return math.Pow(a, b), true
	case "==":
		return a, a == b
	case "!=":
		return a, a != b
	case ">":
		return a, a > b
	case "<":
		return a, a < b
	case ">=":
		return a, a >= b
	}
	return a, a <= b
}

type aggregation struct {
	name  string
	by    grouping
	count int
	inner expression
}

func (a aggregation) eval(all []series) (value, error) {
	inner, err := a.inner.eval(all)
	if err != nil {
		return value{}, err
	}
	if inner.isNumber {
		return value{}, agent.InvalidInput("%s needs series, not a number", a.name)
	}
	groups, labels, order := map[string][]series{}, map[string]map[string]string{}, []string{}
	for _, one := range inner.vector {
		kept := a.by.keep(one.labels)
		name := keyOf(kept)
		if groups[name] == nil {
			order, labels[name] = append(order, name), kept
		}
		groups[name] = append(groups[name], one)
	}
	sort.Strings(order)
	out := value{}
	for _, name := range order {
		if a.count > 0 {
			out.vector = append(out.vector, a.best(groups[name])...)
			continue
		}
		out.vector = append(out.vector, series{"", labels[name], combine(a.name, groups[name])})
	}
	return out, nil
}

func (a aggregation) best(found []series) []series {
	sort.SliceStable(found, func(x, y int) bool {
		if a.name == "topk" {
			return found[x].value > found[y].value
		}
		return found[x].value < found[y].value
	})
	if len(found) > a.count {
		found = found[:a.count]
	}
	return found
}

func combine(name string, found []series) float64 {
	if name == "count" {
		return float64(len(found))
	}
	out := found[0].value
	for _, one := range found[1:] {
		switch {
		case name == "min":
			out = math.Min(out, one.value)
		case name == "max":
			out = math.Max(out, one.value)
		default:
			out += one.value
		}
	}
	if name == "avg" {
		out /= float64(len(found))
	}
	return out
}

type function struct {
	name      string
	arguments []expression
}

func (f function) eval(all []series) (value, error) {
	last, err := f.arguments[len(f.arguments)-1].eval(all)
	if err != nil {
		return value{}, err
	}
	if last.isNumber {
		return value{}, agent.InvalidInput("%s needs series, not a number", f.name)
	}
	switch f.name {
	case "histogram_quantile":
		quantile, err := f.arguments[0].eval(all)
		if err == nil && !quantile.isNumber {
			err = agent.InvalidInput("the first argument of histogram_quantile is a number")
		}
		return value{vector: quantiles(quantile.number, last.vector)}, err
	case "absent":
		if len(last.vector) > 0 {
			return value{}, nil
		}
		return value{vector: []series{{"", map[string]string{}, 1}}}, nil
	}
	out := value{}
	apply := map[string]func(float64) float64{"abs": math.Abs, "ceil": math.Ceil, "floor": math.Floor}[f.name]
	for _, one := range last.vector {
		out.vector = append(out.vector, series{"", one.labels, apply(one.value)})
	}
	return out, nil
}

type bucket struct{ bound, count float64 }

// quantiles computes each histogram's quantile as Prometheus does: linear within its bucket.
func quantiles(quantile float64, found []series) []series {
	buckets, labels := map[string][]bucket{}, map[string]map[string]string{}
	without := grouping{labels: []string{"le"}, without: true}
	for _, one := range found {
		bound, err := strconv.ParseFloat(one.labels["le"], 64)
		if err != nil {
			continue
		}
		kept := without.keep(one.labels)
		buckets[keyOf(kept)] = append(buckets[keyOf(kept)], bucket{bound, one.value})
		labels[keyOf(kept)] = kept
	}
	names := make([]string, 0, len(buckets))
	for name := range buckets {
		names = append(names, name)
	}
	sort.Strings(names)
	out := make([]series, len(names))
	for i, name := range names {
		out[i] = series{"", labels[name], quantileOf(quantile, buckets[name])}
	}
	return out
}

func quantileOf(quantile float64, found []bucket) float64 {
	sort.Slice(found, func(a, b int) bool { return found[a].bound < found[b].bound })
	last := len(found) - 1
	switch {
	case quantile < 0:
		return math.Inf(-1)
	case quantile > 1:
		return math.Inf(1)
	case math.IsNaN(quantile), last < 1, !math.IsInf(found[last].bound, 1), found[last].count == 0:
		return math.NaN()
	}
	rank := quantile * found[last].count
	at := sort.Search(last, func(i int) bool { return found[i].count >= rank })
	if at == last {
		return found[last-1].bound
	}
	start, below := 0.0, 0.0
	if at > 0 {
		start, below = found[at-1].bound, found[at-1].count
	} else if found[0].bound <= 0 {
		return found[0].bound
	}
	if found[at].count == below {
		return found[at].bound
	}
	return start + (found[at].bound-start)*(rank-below)/(found[at].count-below)
}

// Answer is the body of Prometheus' query API.
type Answer struct {
	Status string `json:"status"`
	Data   data   `json:"data"`
	Down   int    `json:"down" doc:"pages that could not be scraped, so their series are missing"`
}

type data struct {
	Type   string   `json:"resultType" doc:"vector or scalar"`
	Result []result `json:"result" doc:"of a scalar one entry without a metric"`
}

type result struct {
	Metric map[string]string `json:"metric"`
	Value  []any             `json:"value" doc:"[seconds since 1970, number as text]"`
}

func ask(ctx *agent.Context, in queryInput) (Answer, error) {
	parsed, err := parseQuery(in.Query)
	if err != nil {
		return Answer{}, err
	}
	all, err := collect(ctx, in.Targets, in.Recorded, in.Timeout)
	if err != nil {
		return Answer{}, err
	}
	found, err := parsed.eval(joined(all))
	if err != nil {
		return Answer{}, err
	}
	out := Answer{Status: "success", Data: data{Type: "vector", Result: []result{}}}
	for _, one := range all {
		if !one.Up {
			out.Down++
		}
	}
	now := float64(time.Now().UnixMilli()) / 1000
	if found.isNumber {
		out.Data = data{"scalar", []result{{map[string]string{}, []any{now, number(found.number)}}}}
		return out, nil
	}
	for _, one := range found.vector {
		metric := grouping{without: true}.keep(one.labels)
		if one.name != "" {
			metric["__name__"] = one.name
		}
		out.Data.Result = append(out.Data.Result, result{metric, []any{now, number(one.value)}})
	}
	return out, nil
}
