package log_aggregator_loki

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// stage is one step of a pipeline: it keeps a line or not, and may give it more labels.
type stage func(labels map[string]string, line string) (map[string]string, bool)

// pipeline reads what stands behind a selector: line filters, parsers, label filters.
func (p *parser) pipeline() ([]stage, error) {
	var out []stage
	for len(out) <= stagesMax {
		switch operator := p.take("|=", "!=", "|~", "!~"); operator {
		case "":
		default:
			one, err := p.lineFilter(operator)
			if err != nil {
				return nil, err
			}
			out = append(out, one)
			continue
		}
		if p.take("|") == "" {
			return out, nil
		}
		one, err := p.labelStage()
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return nil, p.fail("more than %d stages", stagesMax)
}

func (p *parser) lineFilter(operator string) (stage, error) {
	text, err := p.quoted()
	if err != nil {
		return nil, err
	}
	wanted := operator[0] == '|'
	if operator[1] == '=' {
		return func(labels map[string]string, line string) (map[string]string, bool) {
			return labels, strings.Contains(line, text) == wanted
		}, nil
	}
	pattern, err := regexp.Compile(text)
	if err != nil {
		return nil, p.fail("%v", err)
	}
	return func(labels map[string]string, line string) (map[string]string, bool) {
		return labels, pattern.MatchString(line) == wanted
	}, nil
}

func (p *parser) labelStage() (stage, error) {
	label := p.name()
	switch label {
	case "json":
		return func(labels map[string]string, line string) (map[string]string, bool) {
			return withJSON(labels, line), true
		}, nil
	case "logfmt":
		return func(labels map[string]string, line string) (map[string]string, bool) {
			return withLogfmt(labels, line), true
		}, nil
	case "":
		return nil, p.fail("json, logfmt or the name of a label is expected here")
	}
	operator := p.take("=~", "!~", "!=", ">=", "<=", "==", "=", ">", "<")
	if operator == "" {
		return nil, p.fail("%s is no stage that is known here, and no comparison follows: there are json, logfmt, %s=\"…\", %s>=5", label, label, label)
	}
	if p.peek(`"`) || p.peek("`") {
		return p.textFilter(label, operator)
	}
	return p.numberFilter(label, operator)
}

func (p *parser) textFilter(label, operator string) (stage, error) {
	text, err := p.quoted()
	if err != nil {
		return nil, err
	}
	one := matcher{label: label, operator: operator, value: text}
	switch operator {
	case "==":
		one.operator = "="
	case "=", "!=":
	case "=~", "!~":
		if one.pattern, err = regexp.Compile("^(?:" + text + ")$"); err != nil {
			return nil, p.fail("%v", err)
		}
	default:
		return nil, p.fail("%s compares numbers; %q is a text", operator, text)
	}
	return func(labels map[string]string, _ string) (map[string]string, bool) {
		return labels, one.match(labels[label])
	}, nil
}

var number = regexp.MustCompile(`^-?\d+(?:\.\d+)?`)

func (p *parser) numberFilter(label, operator string) (stage, error) {
	p.space()
	digits := number.FindString(p.text[p.at:])
	limit, err := strconv.ParseFloat(digits, 64)
	if err != nil || operator == "=~" || operator == "!~" {
		return nil, p.fail("a number or a text in quotes is expected here")
	}
	p.at += len(digits)
	return func(labels map[string]string, _ string) (map[string]string, bool) {
		value, err := strconv.ParseFloat(labels[label], 64)
		if err != nil {
			return labels, false
		}
		switch operator {
		case ">":
			return labels, value > limit
		case ">=":
			return labels, value >= limit
		case "<":
			return labels, value < limit
		case "<=":
			return labels, value <= limit
		case "!=":
			return labels, value != limit
		}
		return labels, value == limit
	}, nil
}

func with(labels, more map[string]string) map[string]string {
	out := make(map[string]string, len(labels)+len(more))
	for label, value := range more {
		out[label] = value
	}
	for label, value := range labels {
		if _, there := more[label]; there && more[label] != value {
			out[label+"_extracted"] = more[label] // as Loki does: the stream's own label stays
		}
		out[label] = value
	}
	return out
}

// withJSON adds the fields of a line that is a JSON object; inner ones as outer_inner, lists are left out, as in Loki.
func withJSON(labels map[string]string, line string) map[string]string {
	var found map[string]any
	if json.Unmarshal([]byte(line), &found) != nil {
		return with(labels, map[string]string{"__error__": "JSONParserErr"})
	}
	more := map[string]string{}
	flatten("", found, more)
	return with(labels, more)
}

var noLabel = regexp.MustCompile(`[^a-zA-Z0-9_]`)

func flatten(prefix string, fields map[string]any, into map[string]string) {
	for name, value := range fields {
		label := noLabel.ReplaceAllString(prefix+name, "_")
		switch said := value.(type) {
		case map[string]any:
			flatten(prefix+name+"_", said, into)
		case string:
			into[label] = said
		case bool, float64:
			into[label] = fmt.Sprint(said)
		}
	}
}

var logfmtPair = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_.-]*)=("(?:[^"\\]|\\.)*"|[^\s"]*)`)

func withLogfmt(labels map[string]string, line string) map[string]string {
	more := map[string]string{}
	for _, pair := range logfmtPair.FindAllStringSubmatch(line, -1) {
		value := pair[2]
		if text, err := strconv.Unquote(value); err == nil {
			value = text
		}
		more[noLabel.ReplaceAllString(pair[1], "_")] = value
	}
	return with(labels, more)
}
