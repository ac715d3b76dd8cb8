// Package metrics_collector_prometheus is metrics-collector-prometheus: it scrapes all pages of the fleet, federates them into
// one, and answers PromQL over them.
//
// Why it exists: each process of the fleet keeps its own page of metrics. A Prometheus outside scrapes one page in place of
// many, and a question over all of them needs no Prometheus at all.
package metrics_collector_prometheus

import (
	"sort"
	"strings"
	"time"

	"sutazai/agent"
)

const pageBytesMax = 3 << 20 // of a federated page: a result holds 4 MB

// Agent is the agent.
var Agent = agent.New("metrics-collector-prometheus",
	agent.Skill("scrape", "Scrapes all pages of metrics and says which are up, how large, and what is wrong with the others.", scrape),
	agent.Skill("federate", "Scrapes all pages and joins them into one, in Prometheus' text form, with job and instance.", federate),
	agent.Skill("query", "Answers a PromQL query over all pages, as Prometheus' API does.", ask),
)

type scrapeInput struct {
	Targets  []target `json:"targets,omitempty" maxlen:"200" doc:"scrape these and no others; without them all pages of the fleet"`
	Timeout  float64  `json:"timeout_s" default:"5" min:"0.1" max:"60" doc:"for each page"`
	Recorded []page   `json:"recorded,omitempty" maxlen:"200" doc:"take these pages and scrape nothing"`
}

type federateInput struct {
	Match    []string `json:"match,omitempty" maxlen:"50" doc:"only series that one of these selectors matches, like up or {job=\"gateway\"}"`
	Targets  []target `json:"targets,omitempty" maxlen:"200"`
	Timeout  float64  `json:"timeout_s" default:"5" min:"0.1" max:"60"`
	Recorded []page   `json:"recorded,omitempty" maxlen:"200"`
}

type queryInput struct {
	Query    string   `json:"query" minlen:"1" maxlen:"5000" doc:"PromQL: instant selectors, aggregations, arithmetic and comparisons, histogram_quantile"`
	Targets  []target `json:"targets,omitempty" maxlen:"200"`
	Timeout  float64  `json:"timeout_s" default:"5" min:"0.1" max:"60"`
	Recorded []page   `json:"recorded,omitempty" maxlen:"200"`
}

// target is a page to scrape.
type target struct {
	Job string `json:"job" minlen:"1" maxlen:"100"`
	URL string `json:"url" minlen:"1" maxlen:"500" doc:"http://127.0.0.1:PORT/metrics; this machine only"`
}

// page is a page that was scraped before.
type page struct {
	Job      string `json:"job" minlen:"1" maxlen:"100"`
	Instance string `json:"instance" minlen:"1" maxlen:"200"`
	Text     string `json:"text" maxlen:"1000000" doc:"Prometheus' text form"`
}

// Scraped is how the scrape of one page went.
type Scraped struct {
	Job      string  `json:"job"`
	Instance string  `json:"instance"`
	Up       bool    `json:"up"`
	Samples  int     `json:"samples"`
	Bytes    int     `json:"bytes"`
	Seconds  float64 `json:"duration_s"`
	Error    string  `json:"error" doc:"why it is not up"`
}

// Report is the answer of scrape.
type Report struct {
	AtMS    int64     `json:"at_wall_ms"`
	Up      int       `json:"up"`
	Down    int       `json:"down"`
	Samples int       `json:"samples"`
	Names   int       `json:"names" doc:"different metrics"`
	Targets []Scraped `json:"targets"`
}

// Page is the answer of federate.
type Page struct {
	Page    string    `json:"page" doc:"Prometheus' text form"`
	Samples int       `json:"samples"`
	Down    []Scraped `json:"down" doc:"pages that are missing in it"`
}

func scrape(ctx *agent.Context, in scrapeInput) (Report, error) {
	all, err := collect(ctx, in.Targets, in.Recorded, in.Timeout)
	if err != nil {
		return Report{}, err
	}
	out, seen := Report{AtMS: time.Now().UnixMilli(), Targets: []Scraped{}}, map[string]bool{}
	for _, one := range all {
		out.Targets = append(out.Targets, one.Scraped)
		if one.Up {
			out.Up++
		} else {
			out.Down++
		}
		out.Samples += len(one.series)
		for _, each := range one.series {
			seen[each.name] = true
		}
	}
	out.Names = len(seen)
	return out, nil
}

func federate(ctx *agent.Context, in federateInput) (Page, error) {
	matches := make([]selector, len(in.Match))
	for i, text := range in.Match {
		p := &parser{text: text}
		found, err := p.selector()
		if err == nil {
			err = p.end()
		}
		if err != nil {
			return Page{}, err
		}
		matches[i] = found
	}
	all, err := collect(ctx, in.Targets, in.Recorded, in.Timeout)
	if err != nil {
		return Page{}, err
	}
	out := Page{Down: []Scraped{}}
	for _, one := range all {
		if !one.Up {
			out.Down = append(out.Down, one.Scraped)
		}
	}
	out.Page, out.Samples = written(joined(all), families(all), matches)
	if len(out.Page) > pageBytesMax {
		return Page{}, agent.NonRetryable("the page has %d bytes; the most is %d: name fewer series in match", len(out.Page), pageBytesMax)
	}
	return out, nil
}

// joined gives all series with job and instance; a label of that name that a page has itself becomes exported_…, as
// Prometheus does. up and the scrape's own measures are added.
func joined(all []scraped) []series {
	var out []series
	for _, one := range all {
		own := map[string]string{"job": one.Job, "instance": one.Instance}
		for _, each := range one.series {
			labels := make(map[string]string, len(each.labels)+2)
			for label, value := range each.labels {
				if own[label] != "" {
					label = "exported_" + label
				}
				labels[label] = value
			}
			for label, value := range own {
				labels[label] = value
			}
			out = append(out, series{each.name, labels, each.value})
		}
		up := 0.0
		if one.Up {
			up = 1
		}
		out = append(out, series{"up", own, up}, series{"scrape_duration_seconds", own, one.Seconds},
			series{"scrape_samples_scraped", own, float64(one.Samples)})
	}
	return out
}

// families gives the type and the help of each family; the first page that says it is believed.
func families(all []scraped) map[string]family {
	out := map[string]family{
		"up":                      {"gauge", "1 when the page could be scraped, else 0."},
		"scrape_duration_seconds": {"gauge", "Duration of the scrape."},
		"scrape_samples_scraped":  {"gauge", "Samples of the page."},
	}
	for _, one := range all {
		for name, said := range one.families {
			if _, there := out[name]; !there {
				out[name] = said
			}
		}
	}
	return out
}

// written writes series in Prometheus' text form: each family once, in the order of names.
func written(all []series, known map[string]family, matches []selector) (string, int) {
	byFamily, count := map[string][]string{}, 0
	for _, one := range all {
		if !matched(one, matches) {
			continue
		}
		count++
		name := familyOf(one.name, known)
		byFamily[name] = append(byFamily[name], one.String())
	}
	names := make([]string, 0, len(byFamily))
	for name := range byFamily {
		names = append(names, name)
	}
	sort.Strings(names)
	var out strings.Builder
	for _, name := range names {
		if said, there := known[name]; there {
			if said.help != "" {
				out.WriteString("# HELP " + name + " " + said.help + "\n")
			}
			out.WriteString("# TYPE " + name + " " + said.kind + "\n")
		}
		for _, line := range byFamily[name] {
			out.WriteString(line + "\n")
		}
	}
	return out.String(), count
}

func matched(one series, matches []selector) bool {
	for _, each := range matches {
		if each.match(one) {
			return true
		}
	}
	return len(matches) == 0
}

// familyOf finds the family of a series: a histogram's or summary's parts belong to it.
func familyOf(name string, known map[string]family) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count", "_total"} {
		base := strings.TrimSuffix(name, suffix)
		if base == name {
			continue
		}
		kind := known[base].kind
		if kind == "histogram" || kind == "summary" && suffix != "_bucket" || kind == "counter" && suffix == "_total" {
			return base
		}
	}
	return name
}
