package metrics_collector_prometheus

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sutazai/agent"
)

const gatewayPage = `# HELP http_requests_total Requests answered.
# TYPE http_requests_total counter
http_requests_total{door="edge",status="200"} 90
http_requests_total{door="edge",status="503"} 10 1700000000000
http_requests_total{door="agent",status="200"} 100
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le="0.1"} 50
http_request_duration_seconds_bucket{le="0.5"} 90
http_request_duration_seconds_bucket{le="+Inf"} 100
http_request_duration_seconds_sum 20.5
http_request_duration_seconds_count 100
`

const shopPage = `# TYPE process_memory_bytes gauge
process_memory_bytes{process="shop",job="its own",path="C:\\x\n\"y\""} 2.5e+07
temperature -3
`

func recorded() []page {
	return []page{{"gateway", "127.0.0.1:10005", gatewayPage}, {"shop", "127.0.0.1:10600", shopPage}, {"broken", "127.0.0.1:1", "no page"}}
}

func asked(t *testing.T, skill string, input map[string]any, into any) *agent.TrialResult {
	t.Helper()
	if _, there := input["recorded"]; !there && input["targets"] == nil {
		input["recorded"] = recorded()
	}
	body, err := json.Marshal(input)
	if err != nil {
		t.Fatal(err)
	}
	ended := agent.NewTrial(Agent).Run(context.Background(), agent.TrialTask{Skill: skill, Input: body})
	if into != nil {
		if ended.Error != nil {
			t.Fatalf("%s %v: %+v", skill, input, ended.Error)
		}
		if err = json.Unmarshal(ended.Result, into); err != nil {
			t.Fatal(err)
		}
	}
	return &ended
}

func TestEachPageIsReportedAlsoOneThatCannotBeRead(t *testing.T) {
	var found Report
	asked(t, "scrape", map[string]any{}, &found)
	if found.Up != 2 || found.Down != 1 || found.Samples != 10 || found.Names != 6 || !strings.Contains(found.Targets[2].Error, "line 1") {
		t.Errorf("%+v", found)
	}
}

func TestOnePageHoldsAllAndCanBeReadAgain(t *testing.T) {
	var found Page
	asked(t, "federate", map[string]any{}, &found)
	series, known, err := readPage(found.Page)
	if err != nil || len(series) != found.Samples || found.Samples != 10+3*3 {
		t.Fatalf("%d samples, %v\n%s", len(series), err, found.Page)
	}
	if known["http_requests_total"] != (family{"counter", "Requests answered."}) || strings.Count(found.Page, "# TYPE http_request_duration_seconds histogram") != 1 {
		t.Errorf("%v", known)
	}
	for _, line := range []string{
		`process_memory_bytes{exported_job="its own",instance="127.0.0.1:10600",job="shop",path="C:\\x\n\"y\"",process="shop"} 2.5e+07`,
		`up{instance="127.0.0.1:1",job="broken"} 0`, `http_request_duration_seconds_bucket{instance="127.0.0.1:10005",job="gateway",le="+Inf"} 100`,
	} {
		if !strings.Contains(found.Page, line+"\n") {
			t.Errorf("%s is not in\n%s", line, found.Page)
		}
	}
	asked(t, "federate", map[string]any{"match": []string{"up", `{process="shop"}`}}, &found)
	if found.Samples != 4 || len(found.Down) != 1 {
		t.Errorf("%+v", found)
	}
}

func TestQueriesGiveWhatPrometheusGives(t *testing.T) {
	for query, want := range map[string]string{
		`sum(http_requests_total)`:                                                "200",
		`sum by (status) (http_requests_total{status=~"5.."})`:                    "10",
		`100 * sum(http_requests_total{status="503"}) / sum(http_requests_total)`: "5",
		`sum(http_requests_total{door="edge"}) without (status) / ignoring(door) sum by (job, instance) (http_requests_total{door="agent"})`: "1",
		`http_requests_total{status!~"2.."} > 5`:                                      "10",
		`max(up) - min(up)`:                                                           "1",
		`count(up == 1)`:                                                              "2",
		`avg(http_requests_total{door="edge"})`:                                       "50",
		`topk(1, http_requests_total)`:                                                "100",
		`bottomk(1, http_requests_total)`:                                             "10",
		`histogram_quantile(0.5, http_request_duration_seconds_bucket)`:               "0.1",
		`histogram_quantile(0.9, sum by (le) (http_request_duration_seconds_bucket))`: "0.5",
		`histogram_quantile(0.99, http_request_duration_seconds_bucket)`:              "0.5",
		`abs(temperature)`:                                                            "3",
		`-temperature ^ 2`:                                                            "-9",
		`2 ^ 3 ^ 2`:                                                                   "512",
		`(1 + 2) * 3 - 10 % 4`:                                                        "7",
		`absent(nothing)`:                                                             "1",
		`{__name__=~"temp.*"} + 1e0`:                                                  "-2",
		`ceil(process_memory_bytes{exported_job="its own"} / 2 ^ 20)`:                 "24",
		`http_request_duration_seconds_sum / http_request_duration_seconds_count`:     "0.205",
	} {
		var found Answer
		asked(t, "query", map[string]any{"query": query}, &found)
		if len(found.Data.Result) != 1 || found.Data.Result[0].Value[1] != want || found.Down != 1 {
			t.Errorf("%s: %v, not %s", query, found.Data, want)
		}
	}
}

func TestAQueryThatMakesNoSenseSaysWhere(t *testing.T) {
	for query, want := range map[string]string{
		`rate(http_requests_total[5m])`: "rate is not known here", `up[5m]`: "no ranges", `up{`: "name of a label", `up{job}`: "=, !=", `up{job=x}`: "in quotes",
		`{}`: "match everything", `up{job=~"("}`: "missing closing", `sum up`: "( is expected", `topk(up)`: "takes a number", `1 > 2`: "two numbers",
		`sum(1)`: "needs series", `abs(1)`: "needs series", `up up`: "nothing is expected", `up + on(job) group_left up`: "group_left", `(up`: ") is expected",
		`http_requests_total / on(job) up{job="gateway"}`: "several series on the left", `up * on(job) http_requests_total`: "several series on the right",
		`histogram_quantile(up)`: "takes 2 arguments", `histogram_quantile(up, up)`: "is a number", strings.Repeat("(", 60) + "1": "in each other", "": "",
	} {
		ended := asked(t, "query", map[string]any{"query": query}, nil)
		if ended.Error == nil || ended.Error.Code != "invalid-input" || !strings.Contains(ended.Error.Message, want) {
			t.Errorf("%s: %+v", query, ended.Error)
		}
	}
}

func TestPagesAreScrapedFromThisMachineOnly(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		switch request.URL.Path {
		case "/metrics":
			fmt.Fprint(answer, shopPage)
		case "/slow":
			select {
			case <-request.Context().Done():
			case <-time.After(5 * time.Second):
			}
		case "/away":
			http.Redirect(answer, request, "/metrics", http.StatusFound)
		default:
			http.NotFound(answer, request)
		}
	}))
	defer server.Close()
	var found Report
	asked(t, "scrape", map[string]any{"timeout_s": 0.3, "targets": []target{
		{"good", server.URL + "/metrics"}, {"slow", server.URL + "/slow"}, {"away", server.URL + "/away"}, {"gone", "http://127.0.0.1:9/metrics"},
	}}, &found)
	if found.Up != 1 || found.Targets[0].Samples != 2 {
		t.Errorf("%+v", found)
	}
	for i, want := range []string{"", "in time", "302", "nobody answers"} {
		if !strings.Contains(found.Targets[i].Error, want) {
			t.Errorf("%+v", found.Targets[i])
		}
	}
	for _, address := range []string{"http://example.com:80/metrics", "https://127.0.0.1:1/", "http://127.0.0.1/metrics", "http://10.0.0.1:80/", "file:///etc/passwd", "::"} {
		ended := asked(t, "scrape", map[string]any{"targets": []target{{"x", address}}}, nil)
		if ended.Error == nil || ended.Error.Code != "invalid-input" {
			t.Errorf("%s: %+v", address, ended)
		}
	}
}

func TestAPageIsTakenWholeOrNotAtAll(t *testing.T) {
	for text, want := range map[string]string{
		`x{a="b"`: "label is expected", `x{a=b} 1`: "not in quotes", `x{a="b} 1`: "does not end", `x{a="1",a="2"} 1`: "twice", "x": "number is expected",
		"x one": "no number", "x 1 2 3": "number is expected", "1x 2": "name is expected",
	} {
		if _, _, err := readPage("good 1\n" + text); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%s: %v", text, err)
		}
	}
	found, _, err := readPage("a{x=\"1\",} 1 # {trace=\"2\"} 3\nb NaN\nc +Inf 5\n# EOF\nrest")
	if err != nil || len(found) != 3 || found[0].labels["x"] != "1" {
		t.Errorf("%v %v", found, err)
	}
}

// FuzzPages reads hostile pages and queries: what is taken can be written and read again, nothing breaks the worker.
func FuzzPages(f *testing.F) {
	f.Add(gatewayPage, `sum by (a) (x{b=~"c"}) / 2`)
	f.Add(shopPage, `histogram_quantile(0.5, x)`)
	f.Fuzz(func(t *testing.T, text, query string) {
		one := take("job", "instance", text)
		page, count := written(joined([]scraped{one}), families([]scraped{one}), nil)
		if again, _, err := readPage(page); err != nil || len(again) != count {
			t.Fatalf("%v: %d of %d\n%s", err, len(again), count, page)
		}
		if parsed, err := parseQuery(query); err == nil {
			_, _ = parsed.eval(joined([]scraped{one}))
		}
	})
}
