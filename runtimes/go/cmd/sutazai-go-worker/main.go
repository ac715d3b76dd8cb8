// Command sutazai-go-worker hosts the fleet's Go agents; all of them are linked into it.
//
// Why it exists: Go has no zygote to fork. sutazaid starts this program without arguments as go-0 …; the compiler of plans
// asks it for the schemas of skills: sutazai-go-worker describe NAME…
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"sutazai/agent"
	"sutazai/host"
	"sutazai/ids"
)

var started = time.Now()

const usage = `usage: sutazai-go-worker             host agents; started by sutazaid
       sutazai-go-worker describe NAME…  print the skills of agents as JSON
       sutazai-go-worker agents          print the names of the agents that are linked in
       sutazai-go-worker ids             read [{parent, site, index}] and print the ids of these children
       sutazai-go-worker try NAME        run tasks without a fleet: a JSON object {skill, input, session} a line
`

func main() {
	if len(os.Args) < 2 {
		os.Exit(work())
	}
	switch os.Args[1] {
	case "describe":
		os.Exit(describe(os.Args[2:]))
	case "ids":
		os.Exit(childIDs())
	case "try":
		os.Exit(try(os.Args[2:]))
	case "agents":
		fmt.Println(strings.Join(names(), "\n"))
	default:
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
}

func work() int {
	supervisor, broker, name := os.Getenv("SUTAZAI_SOCKET"), os.Getenv("SUTAZAI_BROKER"), os.Getenv("SUTAZAI_WORKER")
	if supervisor == "" || broker == "" || name == "" {
		fmt.Fprintln(os.Stderr, "SUTAZAI_SOCKET, SUTAZAI_BROKER or SUTAZAI_WORKER is not set: this process is started by sutazaid")
		return 2
	}
	return host.Run(host.Options{
		Name: name, Fleet: os.Getenv("SUTAZAI_FLEET"), Supervisor: supervisor, Broker: broker, Agents: linked(),
		Log: agent.NewLog(os.Stdout).With("worker", name), Started: started,
	})
}

func names() []string {
	all := linked()
	found := make([]string, 0, len(all))
	for name := range all {
		found = append(found, name)
	}
	sort.Strings(found)
	return found
}

// childIDs names children as Python does; the conformance suite asks for it.
func childIDs() int {
	var vectors []struct {
		Parent, Site string
		Index        int
	}
	if err := json.NewDecoder(os.Stdin).Decode(&vectors); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	found := make([]string, len(vectors))
	for i, vector := range vectors {
		found[i] = ids.ChildTaskID(vector.Parent, vector.Site, vector.Index)
	}
	_ = json.NewEncoder(os.Stdout).Encode(found)
	return 0
}

// try reads tasks and prints how each ended, a line each.
func try(names []string) int {
	if len(names) != 1 || linked()[nameOf(names[0])] == nil {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	trial := agent.NewTrial(linked()[nameOf(names[0])])
	decoder, encoder := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	for {
		var task agent.TrialTask
		err := decoder.Decode(&task)
		if err == io.EOF {
			return 0
		}
		if err == nil {
			err = encoder.Encode(trial.Run(context.Background(), task))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
}

type answer struct {
	Path string `json:"path"`
	*agent.Description
	Error string `json:"error,omitempty"`
}

// nameOf takes an agent's name out of the path of its code, src/sutazai/agents/<name>/agent.go, or takes a name as it is.
func nameOf(path string) string {
	if strings.HasSuffix(path, ".go") {
		path = filepath.Dir(path)
	}
	return strings.ReplaceAll(filepath.Base(path), "_", "-")
}

func describe(paths []string) int {
	if len(paths) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	all, out := linked(), make([]answer, 0, len(paths))
	for _, path := range paths {
		name := nameOf(path)
		found, known := all[name]
		if !known {
			out = append(out, answer{Path: path, Error: fmt.Sprintf("%s: there is no Go agent %q in this worker; it has %s",
				path, name, strings.Join(names(), ", "))})
			continue
		}
		said, err := found.Describe()
		if err != nil {
			out = append(out, answer{Path: path, Error: fmt.Sprintf("%s: %v", path, err)})
			continue
		}
		out = append(out, answer{Path: path, Description: &said})
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
