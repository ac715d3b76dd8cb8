module sutazai/agents

go 1.19

require sutazai v0.0.0

replace sutazai => ../../../runtimes/go
