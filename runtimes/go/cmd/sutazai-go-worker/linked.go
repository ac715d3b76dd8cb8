package main

import (
	"sutazai/agent"
	"sutazai/agents/honeypot_deployment_agent"
	"sutazai/agents/log_aggregator_loki"
	"sutazai/agents/metrics_collector_prometheus"
	"sutazai/conformance"
)

// linked gives the agents of this worker by name. What is built in is said here, without side effects of imports; the code
// of each is in its own folder, src/sutazai/agents/<name>.
func linked() map[string]*agent.Agent {
	found := map[string]*agent.Agent{}
	for _, one := range []*agent.Agent{
		conformance.Agent,
		honeypot_deployment_agent.Agent,
		log_aggregator_loki.Agent,
		metrics_collector_prometheus.Agent,
	} {
		found[one.Name] = one
	}
	return found
}
