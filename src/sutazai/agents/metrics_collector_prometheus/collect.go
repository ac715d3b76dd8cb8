package metrics_collector_prometheus

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"sync"
	"time"

	"sutazai/agent"
)

const (
	parallel     = 8
	fetchedMax   = 8 << 20 // bytes of one page
	controlJob   = "control"
	gatewayJob   = "gateway"
	acceptedForm = "text/plain;version=0.0.4;q=1,*/*;q=0.1"
)

// scraped is a page with how its scrape went.
type scraped struct {
	Scraped
	series   []series
	families map[string]family
}

// collect gets all pages: recorded ones, named ones, or the fleet's.
func collect(ctx *agent.Context, targets []target, recorded []page, timeoutS float64) ([]scraped, error) {
	if recorded != nil {
		out := make([]scraped, len(recorded))
		for i, one := range recorded {
			out[i] = take(one.Job, one.Instance, one.Text)
		}
		return out, nil
	}
	named := targets != nil
	if !named {
		var err error
		if targets, err = ofFleet(ctx); err != nil {
			return nil, err
		}
	}
	for _, one := range targets {
		if err := onThisMachine(one.URL); err != nil {
			return nil, agent.InvalidInput("%s: %v", one.Job, err)
		}
	}
	out := make([]scraped, len(targets))
	var group sync.WaitGroup
	places := make(chan struct{}, parallel)
	for i := range targets {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			places <- struct{}{}
			defer func() { <-places }()
			out[i] = fetch(ctx, targets[i], time.Duration(timeoutS*float64(time.Second)))
		}(i)
	}
	group.Wait()
	if !named {
		out = append([]scraped{ofControl(ctx)}, out...)
	}
	return out, ctx.Err()
}

func take(job, instance, text string) scraped {
	out := scraped{Scraped: Scraped{Job: job, Instance: instance, Bytes: len(text)}}
	found, known, err := readPage(text)
	if err != nil {
		out.Error = "the page cannot be read: " + err.Error()
		return out
	}
	out.Up, out.Samples, out.series, out.families = true, len(found), found, known
	return out
}

// onThisMachine refuses pages of others: who may ask an agent must not reach by it what they cannot reach themselves.
func onThisMachine(text string) error {
	address, err := url.Parse(text)
	if err != nil || address.Scheme != "http" || address.Port() == "" {
		return fmt.Errorf("%q is no address like http://127.0.0.1:10204/metrics", text)
	}
	if ip := net.ParseIP(address.Hostname()); address.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s is not this machine", address.Hostname())
	}
	return nil
}

// fetch scrapes one page. It follows no redirection: that could lead elsewhere.
func fetch(ctx context.Context, one target, patience time.Duration) scraped {
	address, _ := url.Parse(one.URL)
	failed := scraped{Scraped: Scraped{Job: one.Job, Instance: address.Host}}
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	began := time.Now()
	text, err := get(ctx, one.URL)
	if err != nil {
		failed.Error, failed.Seconds = err.Error(), time.Since(began).Seconds()
		return failed
	}
	out := take(one.Job, address.Host, text)
	out.Seconds = time.Since(began).Seconds()
	return out
}

var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true, Proxy: nil},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func get(ctx context.Context, address string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Accept", acceptedForm)
	response, err := client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return "", fmt.Errorf("it did not answer in time")
		}
		return "", fmt.Errorf("nobody answers there")
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("it answered %s", response.Status)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, fetchedMax+1))
	if err != nil {
		return "", fmt.Errorf("it broke off: %w", err)
	}
	if len(data) > fetchedMax {
		return "", fmt.Errorf("the page has more than %d bytes", fetchedMax)
	}
	return string(data), nil
}

// ofControl takes control's own page by its socket.
func ofControl(ctx *agent.Context) scraped {
	began := time.Now()
	data, err := ctx.FleetPage("/metrics", nil)
	out := take(controlJob, controlJob, string(data))
	if err != nil {
		out = scraped{Scraped: Scraped{Job: controlJob, Instance: controlJob, Error: err.Error()}}
	}
	out.Seconds = time.Since(began).Seconds()
	return out
}

// ofFleet names the pages of the fleet besides control's: one for each process that listens, and each agent's own.
func ofFleet(ctx *agent.Context) ([]target, error) {
	var status struct {
		Processes []struct {
			Name, Kind string
			Ready      bool
			Listen     []struct {
				Name string
				Port int
			}
		}
	}
	if err := ctx.FleetGet("/v1/status", nil, &status); err != nil {
		return nil, err
	}
	var agents struct {
		Agents []struct {
			Name string
			Port int
		}
	}
	if err := ctx.FleetGet("/v1/agents", nil, &agents); err != nil {
		return nil, err
	}
	out := []target{}
	for _, process := range status.Processes {
		if !process.Ready || process.Name == controlJob {
			continue
		}
		for _, socket := range process.Listen {
			if socket.Port == 0 || process.Name == gatewayJob && socket.Name != "edge" {
				continue // the gateway's other doors are the agents'
			}
			out = append(out, local(process.Name, socket.Port))
			break
		}
	}
	for _, card := range agents.Agents {
		if card.Port > 0 {
			out = append(out, local(card.Name, card.Port))
		}
	}
	sort.SliceStable(out, func(a, b int) bool { return out[a].Job < out[b].Job })
	return out, nil
}

func local(job string, port int) target {
	return target{job, "http://127.0.0.1:" + strconv.Itoa(port) + "/metrics"}
}
