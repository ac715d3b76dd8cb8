package main

import (
	"sutazai/agent"
	"sutazai/conformance"
)

// linked gives the agents of this worker by name. What is built in is said here, without side effects of imports; the code
// of each is in its own folder, src/sutazai/agents/<name>.
func linked() map[string]*agent.Agent {
	found := map[string]*agent.Agent{}
	for _, one := range []*agent.Agent{
		conformance.Agent,
	} {
		found[one.Name] = one
	}
	return found
}
