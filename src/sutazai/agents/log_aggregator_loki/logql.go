package log_aggregator_loki

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"sutazai/agent"
)

const (
	stagesMax = 50
	nestedMax = 20
)

// selector is the part in braces: all must hold.
type selector []matcher

type matcher struct {
	label, operator, value string
	pattern                *regexp.Regexp
}

func (s selector) match(labels map[string]string) bool {
	for _, one := range s {
		if !one.match(labels[one.label]) {
			return false
		}
	}
	return true
}

func (m matcher) match(value string) bool {
	switch m.operator {
	case "=":
		return value == m.value
	case "!=":
		return value != m.value
	case "=~":
		return m.pattern.MatchString(value)
	default:
		return !m.pattern.MatchString(value)
	}
}

// query is a LogQL query: lines of streams, or a number made of them.
type query struct {
	streams selector
	stages  []stage
	metric  *metric
}

// window is how far before a point a query looks.
func (q query) window() time.Duration {
	if q.metric == nil {
		return 0
	}
	return q.metric.window
}

// metric is function({…} [window]), perhaps within aggregations, from the inside out.
type metric struct {
	function string
	window   time.Duration
	groups   []aggregation
}

type aggregation struct {
	function string
	count    int // of topk and bottomk
	by       []string
	without  bool
	grouped  bool
}

var rangeFunctions = map[string]bool{"count_over_time": true, "rate": true, "bytes_over_time": true, "bytes_rate": true}

var aggregations = map[string]bool{
	"sum": true, "min": true, "max": true, "avg": true, "count": true, "topk": true, "bottomk": true,
}

// parser reads LogQL from left to right.
type parser struct {
	text string
	at   int
}

func (p *parser) fail(format string, values ...any) error {
	return agent.InvalidInput("LogQL, character %d of %q: %s", p.at+1, p.text, fmt.Sprintf(format, values...))
}

func (p *parser) space() {
	for p.at < len(p.text) && unicode.IsSpace(rune(p.text[p.at])) {
		p.at++
	}
}

// take reads one of the texts, the first that fits.
func (p *parser) take(texts ...string) string {
	p.space()
	for _, text := range texts {
		if strings.HasPrefix(p.text[p.at:], text) {
			p.at += len(text)
			return text
		}
	}
	return ""
}

func (p *parser) peek(text string) bool {
	p.space()
	return strings.HasPrefix(p.text[p.at:], text)
}

var word = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*`)

func (p *parser) name() string {
	p.space()
	found := word.FindString(p.text[p.at:])
	p.at += len(found)
	return found
}

var quoted = regexp.MustCompile("^(\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`)")

func (p *parser) quoted() (string, error) {
	p.space()
	found := quoted.FindString(p.text[p.at:])
	text, err := strconv.Unquote(found)
	if found == "" || err != nil {
		return "", p.fail("a text in quotes is expected here")
	}
	p.at += len(found)
	return text, nil
}

func parseSelector(text string) (selector, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	p := &parser{text: text}
	found, err := p.selector()
	if err == nil {
		err = p.end()
	}
	return found, err
}

func parseQuery(text string) (query, error) {
	p := &parser{text: text}
	found, err := p.query(0)
	if err == nil {
		err = p.end()
	}
	return found, err
}

func (p *parser) end() error {
	if p.space(); p.at < len(p.text) {
		return p.fail("nothing is expected behind here")
	}
	return nil
}

func (p *parser) query(depth int) (query, error) {
	if p.peek("{") {
		return p.lines()
	}
	if depth > nestedMax {
		return query{}, p.fail("more than %d brackets in each other", nestedMax)
	}
	function := p.name()
	switch {
	case rangeFunctions[function]:
		return p.overTime(function)
	case aggregations[function]:
		return p.aggregation(function, depth)
	case function == "":
		return query{}, p.fail(`a query begins with a selector like {app="shop"}, or with a function`)
	}
	return query{}, p.fail("%s is not known here; there are count_over_time, rate, bytes_over_time, bytes_rate, sum, min, max, avg, count, topk, bottomk", function)
}

func (p *parser) lines() (query, error) {
	out := query{}
	var err error
	if out.streams, err = p.selector(); err != nil {
		return out, err
	}
	out.stages, err = p.pipeline()
	return out, err
}

func (p *parser) selector() (selector, error) {
	if p.take("{") == "" {
		return nil, p.fail("a selector like {app=\"shop\"} is expected here")
	}
	out := selector{}
	for p.take("}") == "" {
		if len(out) > 0 && p.take(",") == "" {
			return nil, p.fail("a comma or } is expected here")
		}
		one := matcher{label: p.name()}
		if one.label == "" {
			return nil, p.fail("the name of a label is expected here")
		}
		var err error
		if one.operator = p.take("=~", "!~", "!=", "="); one.operator == "" {
			return nil, p.fail("=, !=, =~ or !~ is expected here")
		}
		if one.value, err = p.quoted(); err != nil {
			return nil, err
		}
		if one.operator == "=~" || one.operator == "!~" {
			if one.pattern, err = regexp.Compile("^(?:" + one.value + ")$"); err != nil {
				return nil, p.fail("%v", err)
			}
		}
		out = append(out, one)
	}
	return out, nil
}

func (p *parser) overTime(function string) (query, error) {
	if p.take("(") == "" {
		return query{}, p.fail("( is expected here")
	}
	out, err := p.lines()
	if err != nil {
		return out, err
	}
	if p.take("[") == "" {
		return out, p.fail("a range like [5m] is expected here")
	}
	end := strings.IndexByte(p.text[p.at:], ']')
	if end < 0 {
		return out, p.fail("] is missing")
	}
	window, err := duration(strings.TrimSpace(p.text[p.at : p.at+end]))
	if err != nil {
		return out, err
	}
	p.at += end + 1
	if p.take(")") == "" {
		return out, p.fail(") is expected here")
	}
	out.metric = &metric{function: function, window: window}
	return out, nil
}

func (p *parser) aggregation(function string, depth int) (query, error) {
	made := aggregation{function: function}
	if err := p.grouping(&made); err != nil {
		return query{}, err
	}
	if p.take("(") == "" {
		return query{}, p.fail("( is expected here")
	}
	if function == "topk" || function == "bottomk" {
		digits := regexp.MustCompile(`^\d{1,6}`).FindString(p.text[p.at:])
		p.at += len(digits)
		made.count, _ = strconv.Atoi(digits)
		if made.count == 0 || p.take(",") == "" {
			return query{}, p.fail("%s takes a number and a query: %s(3, …)", function, function)
		}
	}
	out, err := p.query(depth + 1)
	if err != nil {
		return out, err
	}
	if out.metric == nil {
		return out, p.fail("%s needs numbers: write count_over_time({…} [5m])", function)
	}
	if p.take(")") == "" {
		return out, p.fail(") is expected here")
	}
	if !made.grouped {
		if err = p.grouping(&made); err != nil {
			return out, err
		}
	}
	out.metric.groups = append(out.metric.groups, made)
	return out, nil
}

func (p *parser) grouping(into *aggregation) error {
	before := p.at
	switch p.name() {
	case "by":
	case "without":
		into.without = true
	default:
		p.at = before
		return nil
	}
	into.grouped = true
	if p.take("(") == "" {
		return p.fail("( is expected here")
	}
	for p.take(")") == "" {
		if len(into.by) > 0 && p.take(",") == "" {
			return p.fail("a comma or ) is expected here")
		}
		label := p.name()
		if label == "" {
			return p.fail("the name of a label is expected here")
		}
		into.by = append(into.by, label)
	}
	return nil
}

var durationPart = regexp.MustCompile(`^(\d+(?:\.\d+)?)(ms|s|m|h|d|w)`)

var durationUnits = map[string]time.Duration{
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
}

// duration reads 90s, 1h30m, 2d.
func duration(text string) (time.Duration, error) {
	total, rest := time.Duration(0), text
	for rest != "" {
		found := durationPart.FindStringSubmatch(rest)
		if found == nil || len(text) > 30 {
			return 0, agent.InvalidInput("%q is no time span: write 90s, 5m, 1h30m", text)
		}
		amount, _ := strconv.ParseFloat(found[1], 64)
		if span := amount * float64(durationUnits[found[2]]); span > float64(366*24*time.Hour) {
			return 0, agent.InvalidInput("%q is longer than a year", text)
		}
		total += time.Duration(amount * float64(durationUnits[found[2]]))
		rest = rest[len(found[0]):]
	}
	if total <= 0 {
		return 0, agent.InvalidInput("%q is no time span: write 90s, 5m, 1h30m", text)
	}
	return total, nil
}

func parseFloat(text string) (float64, error) { return strconv.ParseFloat(text, 64) }
