package log_aggregator_loki

import (
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	"sutazai/agent"
)

const (
	hole          = "<_>"
	alike         = 0.6 // share of words that two lines of one pattern have in common; Drain's usual threshold is 0.4 to 0.6
	patternsMax   = 5000
	wordsCompared = 80
)

// Match is a line that search found.
type Match struct {
	AtNS   string            `json:"at_ns" doc:"nanoseconds since 1970, as Loki writes them"`
	Labels map[string]string `json:"labels"`
	Line   string            `json:"line"`
	Before []string          `json:"before" doc:"lines of the same stream"`
	After  []string          `json:"after"`
}

// Matches is the answer of search.
type Matches struct {
	Total   int     `json:"total" doc:"lines that have the text"`
	Looked  int     `json:"looked" doc:"lines that were looked at"`
	Matches []Match `json:"matches" doc:"the newest first"`
}

// Pattern is what a group of lines has in common.
type Pattern struct {
	Pattern string   `json:"pattern" doc:"<_> stands for what differs"`
	Count   int      `json:"count"`
	Share   float64  `json:"share" doc:"of all lines that were looked at"`
	FirstNS string   `json:"first_ns"`
	LastNS  string   `json:"last_ns"`
	Streams []string `json:"streams" doc:"at most ten"`
	Sample  string   `json:"sample" doc:"the newest line of it"`
}

// Patterns is the answer of the skill of that name.
type Patterns struct {
	Looked   int       `json:"looked"`
	Groups   int       `json:"groups"`
	Patterns []Pattern `json:"patterns" doc:"the most frequent first"`
}

func lookBack(recorded []pushedStream, seconds int) (start, end time.Time) {
	if recorded != nil {
		return time.Time{}, time.Time{}
	}
	now := time.Now()
	return now.Add(-time.Duration(seconds) * time.Second), now.Add(time.Minute) // clocks differ a little
}

func search(ctx *agent.Context, in textQuery) (Matches, error) {
	matches, err := parseSelector(in.Selector)
	if err != nil {
		return Matches{}, err
	}
	start, end := lookBack(in.Recorded, in.Last)
	entries, err := gather(ctx, about{in.Where, in.Recorded}, start, end)
	if err != nil {
		return Matches{}, err
	}
	entries = selected(query{streams: matches}, entries)
	wanted, byStream := strings.ToLower(in.Text), grouped(entries)
	out := Matches{Looked: len(entries), Matches: []Match{}}
	places := map[string]int{}
	for name := range byStream {
		places[name] = len(byStream[name])
	}
	for i := len(entries) - 1; i >= 0; i-- {
		one := entries[i]
		name := key(one.labels)
		places[name]--
		if !strings.Contains(strings.ToLower(one.line), wanted) {
			continue
		}
		if out.Total++; len(out.Matches) < in.Limit {
			same, place := byStream[name], places[name]
			out.Matches = append(out.Matches, Match{
				AtNS: nanoseconds(one.at), Labels: one.labels, Line: one.line,
				Before: texts(same[most(0, place-in.Around):place]), After: texts(same[place+1 : least(len(same), place+1+in.Around)]),
			})
		}
	}
	return out, nil
}

func most(a, b int) int {
	if a > b {
		return a
	}
	return b
}

func least(a, b int) int {
	if a < b {
		return a
	}
	return b
}

func texts(entries []entry) []string {
	out := make([]string, len(entries))
	for i, one := range entries {
		out[i] = one.line
	}
	return out
}

func nanoseconds(at int64) string { return strconv.FormatInt(at, 10) }

// What is different in every line that says the same: addresses, identifiers, numbers.
var variable = regexp.MustCompile(`(?i)\b(?:` +
	`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}` + // UUID
	`|\d{4}-\d\d-\d\d[t ]\d\d:\d\d:\d\d(?:[.,]\d+)?z?` + // a time
	`|\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?` + // an address
	`|0x[0-9a-f]+|[0-9a-f]*\d[0-9a-f]{7,}` + // hexadecimal
	`|\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h|kb|mb|gb|b|%)?` + // a number, perhaps with its unit
	`)\b`)

type group struct {
	words   []string
	count   int
	first   int64
	last    int64
	sample  string
	streams map[string]bool
}

// patterns groups lines as Drain does (He et al. 2017): lines of one length and one first word are compared word by word;
// one that is alike joins, and the words that differ become holes.
func patterns(ctx *agent.Context, in patternQuery) (Patterns, error) {
	matches, err := parseSelector(in.Selector)
	if err != nil {
		return Patterns{}, err
	}
	start, end := lookBack(in.Recorded, in.Last)
	entries, err := gather(ctx, about{in.Where, in.Recorded}, start, end)
	if err != nil {
		return Patterns{}, err
	}
	entries = selected(query{streams: matches}, entries)
	found := groupsOf(entries)
	out := Patterns{Looked: len(entries), Groups: len(found), Patterns: []Pattern{}}
	for _, one := range found[:least(len(found), in.Limit)] {
		streams := sorted(one.streams)
		out.Patterns = append(out.Patterns, Pattern{
			Pattern: strings.Join(one.words, " "), Count: one.count, Share: float64(one.count) / float64(len(entries)),
			FirstNS: nanoseconds(one.first), LastNS: nanoseconds(one.last), Streams: streams[:least(len(streams), 10)],
			Sample: one.sample,
		})
	}
	return out, nil
}

func groupsOf(entries []entry) []*group {
	var all []*group
	places := map[string][]*group{}
	for _, one := range entries {
		words := strings.Fields(variable.ReplaceAllString(one.line, hole))
		if len(words) > wordsCompared {
			words = append(words[:wordsCompared:wordsCompared], "…")
		}
		joined := closest(places[place(words)], words)
		if joined == nil && len(all) >= patternsMax {
			continue
		}
		if joined == nil {
			joined = &group{words: words, first: one.at, streams: map[string]bool{}}
			places[place(words)] = append(places[place(words)], joined)
			all = append(all, joined)
		}
		joined.take(one, words)
	}
	sort.SliceStable(all, func(a, b int) bool {
		if all[a].count != all[b].count {
			return all[a].count > all[b].count
		}
		return all[a].first < all[b].first
	})
	return all
}

func place(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return strconv.Itoa(len(words)) + " " + words[0]
}

func closest(groups []*group, words []string) *group {
	var best *group
	score := alike
	for _, one := range groups {
		same := 0
		for i, word := range words {
			if one.words[i] == word {
				same++
			}
		}
		if share := float64(same) / float64(most(1, len(words))); share >= score {
			best, score = one, share
		}
	}
	return best
}

func (g *group) take(one entry, words []string) {
	for i, word := range words {
		if g.words[i] != word {
			g.words[i] = hole
		}
	}
	g.count++
	g.last, g.sample = one.at, one.line
	g.streams[key(one.labels)] = true
}
