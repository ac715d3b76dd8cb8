package metrics_collector_prometheus

import (
	"fmt"
	"math"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

const samplesMax = 50_000 // of one page

// series is one sample with its name.
type series struct {
	name   string
	labels map[string]string
	value  float64
}

// family is what a page says of a metric.
type family struct{ kind, help string }

// String writes a series as a line of a page.
func (s series) String() string {
	names := make([]string, 0, len(s.labels))
	for name := range s.labels {
		names = append(names, name)
	}
	sort.Strings(names)
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = name + `="` + escape.Replace(s.labels[name]) + `"`
	}
	if len(parts) == 0 {
		return s.name + " " + number(s.value)
	}
	return s.name + "{" + strings.Join(parts, ",") + "} " + number(s.value)
}

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func number(value float64) string {
	switch {
	case math.IsInf(value, 1):
		return "+Inf"
	case math.IsInf(value, -1):
		return "-Inf"
	}
	return strconv.FormatFloat(value, 'g', -1, 64)
}

var (
	metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*`)
	labelName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*`)
	kinds      = map[string]bool{"counter": true, "gauge": true, "histogram": true, "summary": true, "untyped": true, "unknown": true}
)

// readPage reads Prometheus' text form; the first mistake ends it, as in Prometheus: a page is taken whole or not at all.
func readPage(text string) ([]series, map[string]family, error) {
	var out []series
	known := map[string]family{}
	for count, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "# EOF" { // OpenMetrics' end
			break
		}
		if strings.HasPrefix(line, "#") {
			comment(line, known)
			continue
		}
		if line == "" {
			continue
		}
		one, err := readLine(line)
		if err != nil {
			return nil, nil, fmt.Errorf("line %d: %w", count+1, err)
		}
		if out = append(out, one); len(out) > samplesMax {
			return nil, nil, fmt.Errorf("more than %d samples", samplesMax)
		}
	}
	return out, known, nil
}

func comment(line string, known map[string]family) {
	words := strings.SplitN(line, " ", 4)
	if len(words) < 4 || words[0] != "#" || !metricName.MatchString(words[2]) {
		return
	}
	said := known[words[2]]
	switch words[1] {
	case "TYPE":
		if said.kind = words[3]; !kinds[said.kind] {
			said.kind = "untyped"
		}
	case "HELP":
		said.help = words[3]
	default:
		return
	}
	if said.kind == "" {
		said.kind = "untyped"
	}
	known[words[2]] = said
}

func readLine(line string) (series, error) {
	out := series{name: metricName.FindString(line), labels: map[string]string{}}
	if out.name == "" {
		return out, fmt.Errorf("a metric's name is expected in %q", cut(line))
	}
	rest := strings.TrimLeft(line[len(out.name):], " \t")
	if strings.HasPrefix(rest, "{") {
		var err error
		if rest, err = readLabels(rest[1:], out.labels); err != nil {
			return out, fmt.Errorf("%w in %q", err, cut(line))
		}
	}
	words := strings.Fields(strings.SplitN(rest, " # ", 2)[0]) // OpenMetrics' exemplars are left out
	if len(words) != 1 && len(words) != 2 {                    // the second is a time, which a scrape's own replaces
		return out, fmt.Errorf("a number is expected behind the name in %q", cut(line))
	}
	value, err := strconv.ParseFloat(words[0], 64)
	if err != nil {
		return out, fmt.Errorf("%q is no number", cut(words[0]))
	}
	out.value = value
	return out, nil
}

func readLabels(rest string, into map[string]string) (string, error) {
	for {
		rest = strings.TrimLeft(rest, " \t,")
		if strings.HasPrefix(rest, "}") {
			return rest[1:], nil
		}
		name := labelName.FindString(rest)
		rest = strings.TrimLeft(rest[len(name):], " \t")
		if name == "" || !strings.HasPrefix(rest, "=") {
			return "", fmt.Errorf("a label is expected")
		}
		rest = strings.TrimLeft(rest[1:], " \t")
		if !strings.HasPrefix(rest, `"`) {
			return "", fmt.Errorf("the value of %s is not in quotes", name)
		}
		value, end := unquoted(rest[1:])
		if end < 0 {
			return "", fmt.Errorf("the value of %s does not end", name)
		}
		if _, twice := into[name]; twice {
			return "", fmt.Errorf("the label %s is there twice", name)
		}
		into[name] = value
		rest = rest[1+end:]
	}
}

// unquoted reads up to the closing quote; it gives where the text goes on behind it, -1 when there is none.
func unquoted(text string) (string, int) {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			return out.String(), i + 1
		case '\\':
			if i++; i >= len(text) {
				return "", -1
			}
			switch text[i] {
			case 'n':
				out.WriteByte('\n')
			case '"', '\\':
				out.WriteByte(text[i])
			default:
				out.WriteByte('\\')
				out.WriteByte(text[i])
			}
		default:
			out.WriteByte(text[i])
		}
	}
	return "", -1
}

func cut(text string) string {
	if runes := []rune(text); len(runes) > 60 {
		return string(runes[:60]) + "…"
	}
	return text
}
