package host

import (
	"bufio"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"sutazai/agent"
)

const (
	cgroupRoot  = "/sys/fs/cgroup"
	noLimit     = int64(1) << 60 // v1 writes "none" as a number near 2^63
	memoryShare = 0.9            // of the group's limit: the rest is stacks, code and the kernel's part
)

// applyLimits tells Go's runtime what the kernel will hold it to: the memory limit, so that it collects garbage before
// the group is out of memory, and the CPU quota, so that it does not run more threads than it has cores.
//
// sutazaid resizes the group when it hosts another instance, so this is called again at each.
func applyLimits(log *agent.Log) {
	memory, cores := limitsIn("/proc/self/cgroup", cgroupRoot)
	limit := int64(math.MaxInt64)
	if memory > 0 {
		limit = int64(float64(memory) * memoryShare)
	}
	before := debug.SetMemoryLimit(limit)
	procs := runtime.NumCPU()
	if cores > 0 && int(math.Ceil(cores)) < procs {
		procs = int(math.Ceil(cores))
	}
	was := runtime.GOMAXPROCS(0)
	if was != procs {
		runtime.GOMAXPROCS(procs)
	}
	if before != limit || was != procs {
		log.Info("limits", "memory_limit_bytes", memory, "threads", procs)
	}
}

// limitsIn reads the limits of a process's group: bytes and cores, 0 for none. The strictest of its group and those above
// holds, as in the kernel.
func limitsIn(membership, root string) (memory int64, cores float64) {
	file, err := os.Open(membership)
	if err != nil {
		return 0, 0
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		parts := strings.SplitN(lines.Text(), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, base := range hierarchies(root, parts[1]) {
			for path := filepath.Clean(parts[2]); ; path = filepath.Dir(path) {
				folder := filepath.Join(base, path)
				memory = least(memory, bytesIn(folder, "memory.max"), bytesIn(folder, "memory.limit_in_bytes"))
				cores = leastCores(cores, quotaV2(folder), quotaV1(folder))
				if path == "/" || path == "." {
					break
				}
			}
		}
	}
	return memory, cores
}

// hierarchies names the folders where a controller may be mounted: alone, with others, or in the one tree of v2.
func hierarchies(root, controllers string) []string {
	if controllers == "" {
		return []string{root, filepath.Join(root, "unified")}
	}
	found := []string{filepath.Join(root, controllers)}
	for _, name := range strings.Split(controllers, ",") {
		if name != controllers {
			found = append(found, filepath.Join(root, name))
		}
	}
	return found
}

func bytesIn(folder, name string) int64 {
	value, err := strconv.ParseInt(word(filepath.Join(folder, name), 0), 10, 64)
	if err != nil || value >= noLimit {
		return 0
	}
	return value
}

func quotaV2(folder string) float64 {
	path := filepath.Join(folder, "cpu.max")
	return ratio(word(path, 0), word(path, 1))
}

func quotaV1(folder string) float64 {
	return ratio(word(filepath.Join(folder, "cpu.cfs_quota_us"), 0), word(filepath.Join(folder, "cpu.cfs_period_us"), 0))
}

func ratio(quota, period string) float64 {
	above, err := strconv.ParseFloat(quota, 64)
	below, err2 := strconv.ParseFloat(period, 64)
	if err != nil || err2 != nil || above <= 0 || below <= 0 {
		return 0
	}
	return above / below
}

func word(path string, index int) string {
	data, err := os.ReadFile(path)
	words := strings.Fields(string(data))
	if err != nil || len(words) <= index {
		return ""
	}
	return words[index]
}

func least(values ...int64) int64 {
	found := int64(0)
	for _, value := range values {
		if value > 0 && (found == 0 || value < found) {
			found = value
		}
	}
	return found
}

func leastCores(values ...float64) float64 {
	found := 0.0
	for _, value := range values {
		if value > 0 && (found == 0 || value < found) {
			found = value
		}
	}
	return found
}
