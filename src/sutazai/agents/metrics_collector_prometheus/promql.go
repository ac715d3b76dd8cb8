package metrics_collector_prometheus

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"sutazai/agent"
)

const nestedMax = 50

// selector picks series by name and labels.
type selector struct {
	name     string
	matchers []matcher
}

type matcher struct {
	label, operator, value string
	pattern                *regexp.Regexp
}

func (s selector) match(one series) bool {
	if s.name != "" && s.name != one.name {
		return false
	}
	for _, each := range s.matchers {
		value := one.labels[each.label]
		if each.label == "__name__" {
			value = one.name
		}
		if !each.match(value) {
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
	}
	return !m.pattern.MatchString(value)
}

// expression is a part of a query that gives a value over some series.
type expression interface {
	eval(all []series) (value, error)
}

// parser reads PromQL from left to right.
type parser struct {
	text string
	at   int
	deep int
}

func (p *parser) fail(format string, values ...any) error {
	return agent.InvalidInput("PromQL, character %d of %q: %s", p.at+1, p.text, fmt.Sprintf(format, values...))
}

func parseQuery(text string) (expression, error) {
	p := &parser{text: text}
	found, err := p.binary(0)
	if err == nil {
		err = p.end()
	}
	return found, err
}

func (p *parser) end() error {
	if p.space(); p.at < len(p.text) {
		if p.text[p.at] == '[' {
			return p.fail("a page holds one moment, so there are no ranges and rates; the fleet's own history is in the control API's /v1/metrics")
		}
		return p.fail("nothing is expected behind here")
	}
	return nil
}

func (p *parser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

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

func (p *parser) pattern(form *regexp.Regexp) string {
	p.space()
	found := form.FindString(p.text[p.at:])
	p.at += len(found)
	return found
}

// Operators from the weakest to the strongest.
var operators = [][]string{{"==", "!=", ">=", "<=", ">", "<"}, {"+", "-"}, {"*", "/", "%"}, {"^"}}

func (p *parser) binary(level int) (expression, error) {
	if level == len(operators) {
		return p.unary()
	}
	left, err := p.binary(level + 1)
	if err != nil {
		return nil, err
	}
	for {
		operator := p.take(operators[level]...)
		if operator == "" {
			return left, nil
		}
		matching, err := p.matching()
		if err != nil {
			return nil, err
		}
		next := level + 1
		if operator == "^" {
			next = level // 2^3^2 is 2^(3^2)
		}
		right, err := p.binary(next)
		if err != nil {
			return nil, err
		}
		left = operation{operator, left, right, matching}
	}
}

// matching reads on (…) or ignoring (…).
func (p *parser) matching() (grouping, error) {
	before := p.at
	switch p.pattern(labelName) {
	case "on":
		return p.labels(grouping{said: true})
	case "ignoring":
		return p.labels(grouping{said: true, without: true})
	case "bool", "group_left", "group_right":
		return grouping{}, p.fail("bool, group_left and group_right are not known here")
	}
	p.at = before
	return grouping{without: true}, nil
}

func (p *parser) labels(into grouping) (grouping, error) {
	if p.take("(") == "" {
		return into, p.fail("( is expected here")
	}
	for p.take(")") == "" {
		if len(into.labels) > 0 && p.take(",") == "" {
			return into, p.fail("a comma or ) is expected here")
		}
		label := p.pattern(labelName)
		if label == "" {
			return into, p.fail("the name of a label is expected here")
		}
		into.labels = append(into.labels, label)
	}
	return into, nil
}

var digits = regexp.MustCompile(`^(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?`)

func (p *parser) unary() (expression, error) {
	if p.deep++; p.deep > nestedMax {
		return nil, p.fail("more than %d parts in each other", nestedMax)
	}
	defer func() { p.deep-- }()
	switch p.take("-", "+", "(") {
	case "-":
		inner, err := p.binary(len(operators) - 1)
		return operation{"*", scalar(-1), inner, grouping{}}, err
	case "+":
		return p.unary()
	case "(":
		inner, err := p.binary(0)
		if err == nil && p.take(")") == "" {
			err = p.fail(") is expected here")
		}
		return inner, err
	}
	if text := p.pattern(digits); text != "" {
		number, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, p.fail("%s is no number", text)
		}
		return scalar(number), nil
	}
	return p.named()
}

func (p *parser) named() (expression, error) {
	before := p.at
	name := p.pattern(metricName)
	switch {
	case aggregations[name]:
		return p.aggregation(name)
	case functions[name] && p.take("(") != "":
		return p.function(name)
	}
	p.at = before
	found, err := p.selector()
	if err != nil {
		return nil, err
	}
	if p.space(); p.at < len(p.text) && p.text[p.at] == '(' {
		return nil, p.fail("%s is not known here; there are %s, abs, ceil, floor, absent, histogram_quantile", name,
			"sum, min, max, avg, count, topk, bottomk")
	}
	return found, nil
}

var quoted = regexp.MustCompile("^(?:\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`)")

func (p *parser) selector() (selector, error) {
	out := selector{name: p.pattern(metricName)}
	if p.take("{") == "" {
		if out.name == "" {
			return out, p.fail("the name of a metric, {…} or a number is expected here")
		}
		return out, nil
	}
	for p.take("}") == "" {
		if len(out.matchers) > 0 && p.take(",") == "" {
			return out, p.fail("a comma or } is expected here")
		}
		one := matcher{label: p.pattern(labelName)}
		if one.label == "" {
			return out, p.fail("the name of a label is expected here")
		}
		if one.operator = p.take("=~", "!~", "!=", "="); one.operator == "" {
			return out, p.fail("=, !=, =~ or !~ is expected here")
		}
		text := p.pattern(quoted)
		value, err := strconv.Unquote(text)
		if text == "" || err != nil {
			return out, p.fail("a text in quotes is expected here")
		}
		if one.value = value; strings.HasSuffix(one.operator, "~") {
			if one.pattern, err = regexp.Compile("^(?:" + value + ")$"); err != nil {
				return out, p.fail("%v", err)
			}
		}
		out.matchers = append(out.matchers, one)
	}
	if out.name == "" && len(out.matchers) == 0 {
		return out, p.fail("{} would match everything: name a metric or a label")
	}
	return out, nil
}

var aggregations = map[string]bool{
	"sum": true, "min": true, "max": true, "avg": true, "count": true, "topk": true, "bottomk": true,
}

var functions = map[string]bool{"abs": true, "ceil": true, "floor": true, "absent": true, "histogram_quantile": true}

func (p *parser) aggregation(name string) (expression, error) {
	out := aggregation{name: name}
	var err error
	if out.by, err = p.grouping(out.by); err != nil {
		return nil, err
	}
	if p.take("(") == "" {
		return nil, p.fail("( is expected here")
	}
	if name == "topk" || name == "bottomk" {
		count, err := strconv.Atoi(p.pattern(regexp.MustCompile(`^\d{1,6}`)))
		if err != nil || count == 0 || p.take(",") == "" {
			return nil, p.fail("%s takes a number and a query: %s(3, …)", name, name)
		}
		out.count = count
	}
	if out.inner, err = p.binary(0); err != nil {
		return nil, err
	}
	if p.take(")") == "" {
		return nil, p.fail(") is expected here")
	}
	if !out.by.said {
		out.by, err = p.grouping(out.by)
	}
	return out, err
}

func (p *parser) grouping(none grouping) (grouping, error) {
	before := p.at
	switch p.pattern(labelName) {
	case "by":
		return p.labels(grouping{said: true})
	case "without":
		return p.labels(grouping{said: true, without: true})
	}
	p.at = before
	return none, nil
}

func (p *parser) function(name string) (expression, error) {
	out := function{name: name}
	for p.take(")") == "" {
		if len(out.arguments) > 0 && p.take(",") == "" {
			return nil, p.fail("a comma or ) is expected here")
		}
		one, err := p.binary(0)
		if err != nil {
			return nil, err
		}
		out.arguments = append(out.arguments, one)
	}
	wanted := 1
	if name == "histogram_quantile" {
		wanted = 2
	}
	if len(out.arguments) != wanted {
		return nil, p.fail("%s takes %d arguments", name, wanted)
	}
	return out, nil
}
