package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	fleetTimeout   = 5 * time.Second
	fleetBytesMax  = 32 << 20
	problemDetails = 64 << 10
)

// FleetGet asks the fleet's control API for facts (docs/reference/control-api.md) and reads the answer's JSON:
//
//	err := ctx.FleetGet("/v1/logs", url.Values{"process": {"broker"}}, &found)
//
// A fleet that does not answer is Unavailable, a wrong question is not tried again.
func (c *Context) FleetGet(path string, query url.Values, into any) error {
	data, err := c.FleetPage(path, query)
	if err != nil {
		return err
	}
	if err = json.Unmarshal(data, into); err != nil {
		return Unavailable("the control API's answer to %s makes no sense: %v", path, err)
	}
	return nil
}

// FleetPage asks the control API and gives the answer as it is, at most 32 MB.
func (c *Context) FleetPage(path string, query url.Values) ([]byte, error) {
	if c.around.Control == "" {
		return nil, Unavailable("there is no fleet here to ask")
	}
	ctx, stop := context.WithTimeout(c, fleetTimeout)
	defer stop()
	address := url.URL{Scheme: "http", Host: "control", Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, NonRetryable("%v", err)
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", c.around.Control)
	}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		var trouble *url.Error
		if errors.As(err, &trouble) {
			err = trouble.Err
		}
		return nil, Unavailable("the fleet's control does not answer: %v", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, problem(response)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, fleetBytesMax+1))
	if err != nil {
		return nil, Unavailable("the fleet's control broke off: %v", err)
	}
	if len(data) > fleetBytesMax {
		return nil, NonRetryable("the answer to %s is above %d bytes: ask for less", path, fleetBytesMax)
	}
	return data, nil
}

func problem(response *http.Response) error {
	var said struct {
		Detail, Code string
		Retryable    bool
	}
	data, _ := io.ReadAll(io.LimitReader(response.Body, problemDetails))
	if json.Unmarshal(data, &said) != nil || said.Detail == "" {
		return Unavailable("the fleet's control answered %s", response.Status)
	}
	return &Error{said.Code, fmt.Sprintf("the fleet's control: %s", said.Detail), said.Retryable}
}
